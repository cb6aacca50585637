//! Values in the text for a channel. The channel is Slack, or understands Slack's messages: `<`, `>` and `&` are its markup,
//! and it makes links and calls people by itself. Only what the playbook's file says may do that.

use minijinja::{AutoEscape, Environment, Error, Output, State, Value};

/// The end of the names of templates whose values are escaped.
pub(crate) const SUFFIX: &str = ".channel";

/// The name of this way of escaping within minijinja.
const CHANNEL: &str = "channel";

/// Placeholders of `<`, `>` and `&` in values until the text is finished: a value may pass several times through a template,
/// for example in `{% set %}`, and would otherwise be escaped as often. They are code points that stand for nothing (Unicode's
/// private use).
const PLACEHOLDERS: [(char, char, &str); 3] =
    [('<', '\u{f0000}', "&lt;"), ('>', '\u{f0001}', "&gt;"), ('&', '\u{f0002}', "&amp;")];

/// Takes no room, and keeps a link or a name from being recognised (Unicode's word joiner).
const JOINER: char = '\u{2060}';

/// Names that call everyone, at whatever place.
const EVERYONE: [&str; 5] = ["channel", "here", "everyone", "all", "group"];

/// Makes the environment escape values in the templates whose name ends with [`SUFFIX`], and in no others.
pub(crate) fn set_up(environment: &mut Environment<'_>) {
    environment.set_auto_escape_callback(|name| {
        if name.ends_with(SUFFIX) { AutoEscape::Custom(CHANNEL.into()) } else { AutoEscape::None }
    });
    environment.set_formatter(format);
}

/// Writes a value. Whether a filter calls it safe does not matter: the file's own text is no value.
fn format(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if !matches!(state.auto_escape(), AutoEscape::Custom(name) if name == CHANNEL) {
        return minijinja::escape_formatter(output, state, value);
    }
    let text = value.to_string();
    output.write_str(&if is_record_url(&text) { text } else { without_markup(&text) }).map_err(Error::from)
}

/// The text with entities instead of placeholders.
pub(crate) fn finish(text: &str) -> String {
    PLACEHOLDERS.iter().fold(text.to_owned(), |text, (_, placeholder, entity)| text.replace(*placeholder, entity))
}

/// Whether it is the address of a record's page, which is ours and harmless whoever writes it.
fn is_record_url(text: &str) -> bool {
    let path = text.strip_prefix("https://app.hubspot.com/contacts/");
    path.is_some_and(|path| {
        let mut parts = path.split('/');
        let is_number = |part: Option<&str>| {
            part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
        };
        is_number(parts.next())
            && parts.next() == Some("record")
            && is_number(parts.next())
            && is_number(parts.next())
            && parts.next().is_none()
    })
}

/// The text without anything that a channel acts on: markup, links, and names that call people.
fn without_markup(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let rest = &text[at + character.len_utf8()..];
        let next = rest.chars().next();
        match PLACEHOLDERS.iter().find(|(markup, ..)| *markup == character) {
            Some((_, placeholder, _)) => plain.push(*placeholder),
            None => plain.push(character),
        }
        let breaks = match character {
            // `https://…`; at the end of a value the slashes may be in the next one.
            ':' => next.is_none_or(|next| next == '/'),
            // `www.…`
            '.' => text[..at].to_ascii_lowercase().ends_with("www"),
            // `[text](address)`
            ']' => next.is_none_or(|next| next == '(' || next == '['),
            '@' => calls(text[..at].chars().next_back(), rest),
            _ => false,
        };
        if breaks && next != Some(JOINER) {
            plain.push(JOINER);
        }
    }
    plain
}

/// Whether an `@` calls someone: not in an e-mail address, unless what follows calls everyone.
fn calls(before: Option<char>, after: &str) -> bool {
    let is_address = before.is_some_and(char::is_alphanumeric) && after.starts_with(char::is_alphanumeric);
    let word: String = after.chars().take_while(|character| character.is_alphanumeric()).collect();
    !is_address || EVERYONE.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str, value: &str) -> String {
        let mut environment = Environment::new();
        set_up(&mut environment);
        environment.add_template_owned("x.channel", template.to_owned()).expect("a template");
        let text = environment.get_template("x.channel").expect("it").render(minijinja::context! { value });
        finish(&text.expect("rendered"))
    }

    #[test]
    fn a_value_is_text_and_the_templates_own_links_are_links() {
        let template = "<https://example.com/a?b&c|open> {{ value }} <!here>";
        let shown = rendered(template, "<https://evil.example|Sign in again> & more");
        assert_eq!(
            shown,
            "<https://example.com/a?b&c|open> &lt;https:\u{2060}//evil.example|Sign in again&gt; &amp; more <!here>"
        );
        for (value, shown) in [
            ("<!channel>", "&lt;!channel&gt;"),
            ("@channel", "@\u{2060}channel"),
            ("hi@here.", "hi@\u{2060}here."),
            ("@", "@\u{2060}"),
            ("mia@example.com", "mia@example.com"),
            ("http:", "http:\u{2060}"),
            ("www.evil.example", "www.\u{2060}evil.example"),
            ("[x](evil)", "[x]\u{2060}(evil)"),
            ("&lt;", "&amp;lt;"),
            ("at 10:30, 5 < 6", "at 10:30, 5 &lt; 6"),
            ("\u{f0000}", "&lt;"),
        ] {
            assert_eq!(rendered("{{ value }}", value), shown);
        }
    }

    #[test]
    fn no_filter_and_no_detour_gives_a_value_markup() {
        let attack = "<https://evil.example|x> @channel";
        let expected = rendered("{{ value }}", attack);
        for template in [
            "{{ value | safe }}",
            "{% set text %}{{ value }}{% endset %}{{ text }}",
            "{% macro text() %}{{ value }}{% endmacro %}{{ text() }}",
            "{% filter trim %}{{ value }}{% endfilter %}",
            "{{ [value] | join }}",
            "{% for one in [value] %}{{ one }}{% endfor %}",
        ] {
            assert_eq!(rendered(template, attack), expected, "{template}");
        }
        assert!(!rendered("{{ value | upper }}", attack).contains('<'));
    }

    #[test]
    fn the_address_of_a_record_stays_a_link() {
        let address = "https://app.hubspot.com/contacts/9876543/record/0-1/1";
        assert_eq!(rendered("{{ value }}", address), address);
        for other in
            ["https://app.hubspot.com/contacts/1/record/0-1/1/../../x", "https://app.hubspot.com.evil.example/"]
        {
            assert!(rendered("{{ value }}", other).contains(JOINER), "{other}");
        }
    }
}
