//! What is wrong with a URL, in words that do not quote it: it may hold a password.
//!
//! The clients read their URLs leniently: what they do not understand is left out or taken as it is, and shows hours later, as a
//! connection that does not come. Here it is refused.

use std::net::IpAddr;

use url::Url;

/// What a setting may lead to by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpUrl {
    /// Paths are appended to it.
    Base,
    /// It is called, or compared, as it is.
    Whole,
}

/// What is wrong with a URL for HTTP.
pub(crate) fn http(text: &str, kind: HttpUrl) -> Vec<String> {
    let url = match parsed(text, &["https", "http"]) {
        Ok(url) => url,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    if kind == HttpUrl::Base && url.query().is_some() {
        problems.push("must have no query: paths are appended to it".to_owned());
    }
    problems
}

/// What is wrong with a URL of RabbitMQ, as the client (lapin) reads it: <https://www.rabbitmq.com/docs/uri-spec> and
/// <https://www.rabbitmq.com/docs/uri-query-parameters>.
pub(crate) fn amqp(text: &str) -> Vec<String> {
    let url = match parsed(text, &["amqp", "amqps"]) {
        Ok(url) => url,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    match url.host_str() {
        None | Some("") => problems.push("has no host".to_owned()),
        // The client would connect to `localhost` instead.
        Some(host) if host.starts_with('[') => {
            problems.push("has an IPv6 address as its host, which the client does not take: give it a name".to_owned());
        }
        Some(host) => problems.extend(several_hosts(host)),
    }
    match url.path() {
        "" => {}
        "/" => problems.push("has an empty virtual host: end it with /%2f for the virtual host `/`".to_owned()),
        path if path[1..].contains('/') => {
            problems.push("has a / in its virtual host: write it as %2f".to_owned());
        }
        path => problems.extend(badly_encoded(path, "virtual host")),
    }
    let whole =
        |value: &str, range: std::ops::RangeInclusive<u64>| value.parse().is_ok_and(|n: u64| range.contains(&n));
    problems.extend(parameters(&url, |name, value| match name {
        "heartbeat" => Some((whole(value, 1..=600), "must be a number of seconds within 1–600")),
        "frame_max" => Some((whole(value, 4_096..=131_072), "must be a number of bytes within 4096–131072")),
        "channel_max" => Some((whole(value, 16..=65_535), "must be a number within 16–65535")),
        "connection_timeout" => Some((whole(value, 1..=600_000), "must be a number of milliseconds within 1–600000")),
        "auth_mechanism" => {
            let known = ["plain", "amqplain", "external", "anonymous", "rabbit-cr-demo"];
            let is_known = known.contains(&value.to_lowercase().as_str());
            Some((is_known, "must be plain, amqplain, external, anonymous or rabbit-cr-demo"))
        }
        _ => None,
    }));
    problems
}

/// The values of `sslmode`.
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What is wrong with a URL of Postgres, as the client (sqlx) reads it.
pub(crate) fn postgres(text: &str) -> Vec<String> {
    let url = match parsed(text, &["postgres", "postgresql"]) {
        Ok(url) => url,
        Err(problem) => return vec![problem],
    };
    let mut problems: Vec<_> = url.host_str().and_then(several_hosts).into_iter().collect();
    let database = url.path().trim_start_matches('/');
    if database.contains('/') {
        problems.push("has a / in its database: write it as %2f".to_owned());
    }
    problems.extend(badly_encoded(database, "database"));
    problems.extend(parameters(&url, |name, value| match name {
        "sslmode" | "ssl-mode" => {
            let is_known = SSL_MODES.contains(&value.to_ascii_lowercase().as_str());
            Some((is_known, "must be disable, allow, prefer, require, verify-ca or verify-full"))
        }
        "port" => Some((value.parse().is_ok_and(|port: u16| port > 0), "must be a port")),
        "hostaddr" => Some((value.parse::<IpAddr>().is_ok(), "must be an IP address")),
        "statement-cache-capacity" => Some((value.parse::<u32>().is_ok(), "must be a number")),
        "host" => Some((!value.contains(','), "has several hosts, which the client does not take")),
        "sslrootcert" | "ssl-root-cert" | "ssl-ca" | "sslcert" | "ssl-cert" | "sslkey" | "ssl-key" | "dbname"
        | "user" | "password" | "options" => Some((true, "")),
        // The client ignores it, and what it promises would not be kept.
        "target_session_attrs" => Some((false, "is not known here: a server that only reads is left without it")),
        _ => name.starts_with("options[").then_some((name.ends_with(']'), "lacks its ]")),
    }));
    problems
}

/// Whether two URLs of Postgres differ in user and password at most. Connections that are open lead where the first one does.
pub(crate) fn differ_in_user_only(one: &str, other: &str) -> bool {
    let without_user = |text: &str| {
        let mut url = Url::parse(text).ok()?;
        // It cannot be done to a URL without a host, which has neither.
        let _ = (url.set_username(""), url.set_password(None));
        let is_about_user = |name: &str| name == "user" || name == "password";
        let others = url.query_pairs().filter(|(name, _)| !is_about_user(name));
        let parameters: Vec<_> = others.map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        url.set_query(None);
        Some((url, parameters))
    };
    one == other || without_user(one).is_some_and(|one| without_user(other) == Some(one))
}

/// The URL, if it has one of the `schemes` and all of it can be read.
fn parsed(text: &str, schemes: &[&str]) -> Result<Url, String> {
    if !schemes.iter().any(|scheme| text.starts_with(&format!("{scheme}://"))) {
        return Err(format!("must begin with {}://", schemes.join(":// or ")));
    }
    // The parser would leave some of them out, and who appends a path would not.
    if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
        return Err("has a space or a control character in it".to_owned());
    }
    // Its errors are fixed texts.
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    if url.fragment().is_some() {
        return Err("has a # in it: within a user, a password or a path it is written %23".to_owned());
    }
    if url.query().is_some_and(|query| query.contains('@')) {
        // What follows would be told as the name of a parameter, and may be the end of a password.
        return Err(
            "has an @ after a ?: within a user or a password a ? is written %3F, and elsewhere an @ %40".to_owned()
        );
    }
    if url.port() == Some(0) {
        return Err("has the port 0".to_owned());
    }
    let parts = [(url.username(), "user"), (url.password().unwrap_or_default(), "password")];
    let problem = parts.into_iter().find_map(|(text, part)| badly_encoded(text, part));
    problem.map_or(Ok(url), Err)
}

fn several_hosts(host: &str) -> Option<String> {
    host.contains(',').then(|| "has several hosts, which the client does not take".to_owned())
}

/// What is wrong with the parameters. `judge` says of each whether its value is right, and what it must be; `None` when it is not known.
fn parameters(url: &Url, judge: impl Fn(&str, &str) -> Option<(bool, &'static str)>) -> Vec<String> {
    let (mut problems, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in url.query_pairs() {
        match judge(&name, &value) {
            None => unknown.push(name.into_owned()),
            Some((false, what)) => problems.push(format!("its parameter `{name}` {what}")),
            Some((true, _)) => {}
        }
    }
    // After a password with a plain `&`, the rest of it looks like a parameter.
    let may_be_secret = url.query_pairs().any(|(name, _)| name == "password");
    match unknown.len() {
        0 => {}
        count if may_be_secret => problems.push(format!("has {count} parameters that are not known here")),
        _ => problems.push(format!("has parameters that are not known here: {}", unknown.join(", "))),
    }
    problems
}

/// What is wrong with the percent-encoding of a part of a URL. The clients would take a % that encodes nothing as it is.
fn badly_encoded(text: &str, part: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let encoded = (byte == b'%').then(|| [bytes.next(), bytes.next()]);
        match encoded {
            None => decoded.push(byte),
            Some([Some(high), Some(low)]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = [high, low];
                let hex = std::str::from_utf8(&digits).ok()?;
                decoded.push(u8::from_str_radix(hex, 16).ok()?);
            }
            Some(_) => return Some(format!("has a % in its {part} without two hex digits after it: write a % as %25")),
        }
    }
    std::str::from_utf8(&decoded).is_err().then(|| format!("its {part} is no text in UTF-8 when it is decoded"))
}

#[cfg(test)]
mod tests {
    use super::differ_in_user_only;

    #[test]
    fn another_user_or_password_is_no_other_place_and_everything_else_is() {
        let url = "postgres://ann:geheim@db:5432/leadline?sslmode=verify-full";
        for same in [
            url,
            "postgres://bob:other@db:5432/leadline?sslmode=verify-full",
            "postgres://db:5432/leadline?sslmode=verify-full&password=other&user=bob",
        ] {
            assert!(differ_in_user_only(url, same), "{same}");
        }
        for elsewhere in [
            "postgres://ann:geheim@standby:5432/leadline?sslmode=verify-full",
            "postgres://ann:geheim@db:5433/leadline?sslmode=verify-full",
            "postgres://ann:geheim@db:5432/other?sslmode=verify-full",
            "postgres://ann:geheim@db:5432/leadline?sslmode=require",
            "postgres://ann:geheim@db:5432/leadline?sslmode=verify-full&host=standby",
            "no URL",
        ] {
            assert!(!differ_in_user_only(url, elsewhere), "{elsewhere}");
        }
        assert!(differ_in_user_only("postgres:///l?host=/run&user=a", "postgres:///l?host=/run&password=b"));
    }
}
