//! What a session of Postgres is told, and whether the server, or a pooler before it, keeps it.
//!
//! It is told by SQL and read back: of what stands in a connection's first message, a pooler refuses what it does not know, or drops it
//! without a word (PgBouncer's documentation, `ignore_startup_parameters`).

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqlSafeStr, SqlStr, postgres::PgConnectOptions};

/// How connections of this process and sessions of the server belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PoolMode {
    /// Each connection has a session of its own: it leads to the server itself, or to a pooler in session mode.
    #[default]
    Session,
    /// A pooler gives a connection another session for each transaction. So every statement is in a transaction, which is told its
    /// limits at its beginning, and no session is to keep a prepared statement.
    Transaction,
}

/// Why the sessions behind a URL cannot be used. Only a person can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    /// A session does not keep what it was told.
    #[error(
        "the server, or a pooler before it, does not keep what a session is told: {parameter} was set to `{told}` and is `{found}`. \
         Use a pooler in session mode, or one in transaction mode with ledger.pool_mode = \"transaction\""
    )]
    Dropped {
        /// The parameter.
        parameter: String,
        /// What it was set to.
        told: String,
        /// What it was afterwards.
        found: String,
    },
    /// Several connections have one session.
    #[error(
        "a pooler gives sessions to single transactions: say ledger.pool_mode = \"transaction\", or use one in session mode. \
         `leadline migrate` needs the server itself or a pooler in session mode (ledger.migrate_url)"
    )]
    Shared,
    /// The database counts bytes instead of characters, or cannot hold every text.
    #[error(
        "the database has the encoding {0}, and texts from HubSpot need UTF8: create it with `encoding 'UTF8' template template0`"
    )]
    Encoding(String),
    /// There are no transactions of several statements.
    #[error("a pooler refuses transactions: use one in session mode or in transaction mode")]
    NoTransactions,
}

impl From<SessionFault> for sqlx::Error {
    fn from(fault: SessionFault) -> Self {
        Self::Configuration(Box::new(fault))
    }
}

/// The fault that an error of sqlx carries, if it carries one.
pub(crate) fn fault_of(error: &sqlx::Error) -> Option<&SessionFault> {
    match error {
        sqlx::Error::Configuration(error) => error.downcast_ref(),
        _ => None,
    }
}

/// How long what may take, by the server's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A statement; `None`: for ever.
    pub statement: Option<Duration>,
    /// Waiting for a lock; `None`: as long as the statement.
    pub lock: Option<Duration>,
    /// Doing nothing within a transaction: a process that is frozen there would hold its locks for as long.
    pub idle_in_transaction: Duration,
}

/// When Postgres gives up a client that is no longer there, whose locks others wait for: after half a minute without an answer
/// (Postgres' documentation, "Connections and Authentication": `tcp_keepalives_*` in seconds, `tcp_user_timeout` in milliseconds).
const LOST_CLIENTS: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// How often it is looked whether two connections have one session. Others may use the pooler in between.
const LOOKS: usize = 3;

/// Which process of which server answers.
const PROCESS: &str = "select pg_backend_pid() || ' ' || pg_postmaster_start_time()";

/// What every session, or every transaction, is told.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    mode: PoolMode,
    parameters: BTreeMap<String, String>,
}

impl Session {
    /// Tells these limits, and what the URL has as `options`.
    pub fn new(mode: PoolMode, limits: &Limits, options: &PgConnectOptions) -> Self {
        let milliseconds = |limit: Duration| limit.as_millis().to_string();
        let mut parameters = options.get_options().map(named_in).unwrap_or_default();
        let mut tell = |name: &str, value: String| parameters.insert(name.to_owned(), value);
        tell("timezone", "UTC".to_owned());
        tell("statement_timeout", milliseconds(limits.statement.unwrap_or_default()));
        tell("idle_in_transaction_session_timeout", milliseconds(limits.idle_in_transaction));
        if let Some(limit) = limits.lock {
            tell("lock_timeout", milliseconds(limit));
        }
        // The other end of a shared session's connection is the pooler.
        if mode == PoolMode::Session {
            LOST_CLIENTS.iter().for_each(|(name, value)| drop(tell(name, (*value).to_owned())));
        }
        Self { mode, parameters }
    }

    /// Whether a connection has a session of its own, which may keep prepared statements.
    pub fn is_own(&self) -> bool {
        self.mode == PoolMode::Session
    }

    /// The statement that begins a transaction; `None`: the usual one.
    pub fn begin(&self) -> Option<SqlStr> {
        (!self.is_own()).then(|| AssertSqlSafe(format!("begin; {}", self.set(true))).into_sql_str())
    }

    /// Prepares a fresh connection.
    pub async fn establish(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.is_own() {
            let told = texts(connection, self.set(false)).await?;
            self.compare(&told, connection).await?;
        }
        Ok(())
    }

    /// A connection that is told so.
    pub fn connect<'a>(&'a self, options: &'a PgConnectOptions) -> BoxFuture<'a, Result<PgConnection, sqlx::Error>> {
        async move {
            let mut connection = PgConnection::connect_with(options).await?;
            self.establish(&mut connection).await?;
            Ok(connection)
        }
        .boxed()
    }

    /// Finds out, with connections of its own, whether sessions keep what they are told, and whose they are.
    pub fn verify<'a>(&'a self, options: &'a PgConnectOptions) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        if self.is_own() { self.verify_own(options).boxed() } else { self.verify_shared(options).boxed() }
    }

    async fn verify_own(&self, options: &PgConnectOptions) -> Result<(), sqlx::Error> {
        let (mut first, mut second) = (self.connect(options).await?, self.connect(options).await?);
        verify_encoding(&mut first).await?;
        for _ in 0..LOOKS {
            let before = texts(&mut first, PROCESS.to_owned()).await?;
            // A pooler that shares sessions gives it the one that has just become free.
            self.begin_alone(&mut second, options).await?;
            let of_other = texts(&mut second, PROCESS.to_owned()).await?;
            let after = texts(&mut first, PROCESS.to_owned()).await?;
            texts(&mut second, "commit".to_owned()).await?;
            if of_other == before || after != before {
                return Err(SessionFault::Shared.into());
            }
        }
        let _ = (first.close().await, second.close().await);
        Ok(())
    }

    async fn verify_shared(&self, options: &PgConnectOptions) -> Result<(), sqlx::Error> {
        let mut connection = self.connect(options).await?;
        self.begin_alone(&mut connection, options).await?;
        let told = texts(&mut connection, self.set(true)).await?;
        self.compare(&told, &mut connection).await?;
        verify_encoding(&mut connection).await?;
        texts(&mut connection, "commit".to_owned()).await?;
        let _ = connection.close().await;
        Ok(())
    }

    /// Begins a transaction.
    async fn begin_alone(&self, connection: &mut PgConnection, options: &PgConnectOptions) -> Result<(), sqlx::Error> {
        let Err(error) = texts(connection, "begin".to_owned()).await else { return Ok(()) };
        if matches!(error, sqlx::Error::Database(_)) {
            // Other statements are answered: it is transactions that are refused.
            let mut another = self.connect(options).await?;
            texts(&mut another, PROCESS.to_owned()).await?;
            return Err(SessionFault::NoTransactions.into());
        }
        Err(error)
    }

    /// Compares what was set, in the server's words, with what is set.
    async fn compare(&self, told: &[String], connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let settings = self.parameters.keys().map(|name| format!("current_setting({})", quoted(name)));
        let found = texts(connection, format!("select {}", settings.collect::<Vec<_>>().join(", "))).await?;
        let dropped = self.parameters.keys().zip(told.iter().zip(&found)).find(|(_, (told, found))| told != found);
        dropped.map_or(Ok(()), |(parameter, (told, found))| {
            let (told, found) = (told.clone(), found.clone());
            Err(SessionFault::Dropped { parameter: parameter.clone(), told, found }.into())
        })
    }

    /// The statement that sets all parameters and returns them, in the server's words.
    fn set(&self, is_local: bool) -> String {
        let set =
            |(name, value): (&String, &String)| format!("set_config({}, {}, {is_local})", quoted(name), quoted(value));
        format!("select {}", self.parameters.iter().map(set).collect::<Vec<_>>().join(", "))
    }
}

async fn verify_encoding(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match texts(connection, "select current_setting('server_encoding')".to_owned()).await?.pop() {
        Some(encoding) if encoding != "UTF8" => Err(SessionFault::Encoding(encoding).into()),
        _ => Ok(()),
    }
}

/// The row of texts that a statement returns; empty when it returns none. Nothing is prepared for it.
async fn texts(connection: &mut PgConnection, sql: String) -> Result<Vec<String>, sqlx::Error> {
    match connection.fetch_optional(sqlx::raw_sql(AssertSqlSafe(sql))).await? {
        Some(row) => (0..row.len()).map(|column| row.try_get(column)).collect(),
        None => Ok(Vec::new()),
    }
}

/// A string as SQL has it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The parameters in `-c name=value` or `--name=value`. A backslash takes the next character as it is (Postgres' documentation, "libpq
/// Connection Strings", `options`).
fn named_in(options: &str) -> BTreeMap<String, String> {
    let (mut words, mut characters) = (vec![String::new()], options.chars());
    while let Some(character) = characters.next() {
        match character {
            '\\' => words.last_mut().into_iter().for_each(|word| word.extend(characters.next())),
            blank if blank.is_whitespace() => words.push(String::new()),
            other => words.last_mut().into_iter().for_each(|word| word.push(other)),
        }
    }
    let named = words.iter().filter_map(|word| {
        let setting = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
        let (name, value) = setting.split_once('=')?;
        Some((name.to_lowercase().replace('-', "_"), value.to_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sqlx::postgres::PgConnectOptions;

    use super::{Limits, PoolMode, Session, named_in};

    #[test]
    fn what_the_url_has_as_options_is_told_and_does_not_outweigh_the_limits() {
        let url =
            r"postgres://u@127.0.0.1/l?options[search_path]=a\ b,c&options[statement_timeout]=0&options[x.y]=it's";
        let options: PgConnectOptions = url.parse().expect("a URL");
        let limits =
            Limits { statement: Some(Duration::from_secs(2)), lock: None, idle_in_transaction: Duration::from_secs(1) };
        let session = Session::new(PoolMode::Transaction, &limits, &options);
        let told: Vec<_> = session.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "idle_in_transaction_session_timeout=1000",
            r"search_path=a\ b,c",
            "statement_timeout=2000",
            "timezone=UTC",
        ];
        assert_eq!(told, [&expected[..], &["x.y=it's"]].concat());
        assert!(session.set(true).contains("set_config('x.y', 'it''s', true)"), "{}", session.set(true));
    }

    #[test]
    fn options_are_read_in_each_of_their_forms() {
        let named = named_in(r"-c lock_timeout=5s  -cwork_mem=1MB --enable-seqscan=off -c search_path=a\ b -x");
        let named: Vec<_> = named.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(named, ["enable_seqscan=off", "lock_timeout=5s", "search_path=a b", "work_mem=1MB"]);
    }
}
