//! What the developer's commands run on, as `--on` says it.

use std::{fmt, str::FromStr};

use anyhow::{Result, bail};

/// RabbitMQ and Postgres that a developer chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum On {
    /// Those that the environment names.
    Environment,
    /// Those of `docker-compose.yml`, in containers of their own.
    Containers,
    /// Instances of the installed programs.
    Private,
    /// Those that run under these URLs.
    Urls(Urls),
}

/// Where RabbitMQ and Postgres run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// RabbitMQ without a virtual host; of a cluster, a URL for each node, separated by commas.
    pub amqp: String,
    /// RabbitMQ's management API, with a user who is an administrator.
    pub management: String,
    /// Postgres, with a database, and a user who is a superuser.
    pub postgres: String,
}

impl FromStr for On {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "environment" => Self::Environment,
            "containers" => Self::Containers,
            "private" => Self::Private,
            urls => Self::Urls(urls.parse()?),
        })
    }
}

impl FromStr for Urls {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let with = |scheme: &str| text.split(',').filter(|url| url.starts_with(scheme)).collect::<Vec<_>>();
        let (amqp, management, postgres) = (with("amqp"), with("http"), with("postgres"));
        let known = amqp.len() + management.len() + postgres.len();
        if let ([_, ..], [management], [postgres]) = (&amqp[..], &management[..], &postgres[..])
            && known == text.split(',').count()
        {
            let (management, postgres) = ((*management).to_owned(), (*postgres).to_owned());
            return Ok(Self { amqp: amqp.join(","), management, postgres });
        }
        bail!(
            "--on takes `environment`, `containers`, `private`, or three URLs separated by commas: amqp://user:password@host:port, \
             http://user:password@host:port (RabbitMQ's management API) and postgres://user:password@host:port/database"
        )
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::Containers => f.write_str("containers"),
            Self::Private => f.write_str("private"),
            Self::Urls(Urls { amqp, management, postgres }) => write!(f, "{amqp},{management},{postgres}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{On, Urls};

    #[test]
    fn three_urls_in_any_order_say_where_the_services_run_and_nothing_less_does() {
        let text = "postgres://p@h:2/d,amqp://a@h:1,http://m@h:3,amqp://a@i:1";
        let on: On = text.parse().expect("URLs");
        let amqp = "amqp://a@h:1,amqp://a@i:1".to_owned();
        let urls = Urls { amqp, management: "http://m@h:3".to_owned(), postgres: "postgres://p@h:2/d".to_owned() };
        assert_eq!(on, On::Urls(urls));
        assert_eq!(on.to_string().parse::<On>().expect("the same"), on);
        for wrong in ["", "docker", "amqp://a@h:1,postgres://p@h:2/d", "amqp://a,http://m,postgres://p,redis://r"] {
            assert!(wrong.parse::<On>().is_err(), "{wrong}");
        }
    }
}
