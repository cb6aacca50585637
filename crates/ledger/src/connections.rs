//! The connections to Postgres, and the bound that every statement has on this side.
//!
//! Postgres ends a statement that runs too long (`statement_timeout`). A server that dies without a word, or a proxy that swallows bytes,
//! ends nothing: the kernel keeps such a connection for some fifteen minutes. So each statement has a bound here, too. When one gets no
//! answer within it, the whole pool is given up and a fresh one takes its place: the other connections lead to the same server, and
//! sqlx waits without a bound for those that it tests before it hands them out again.
//!
//! What a connection is told first, and how it is used where a pooler shares sessions, is in `session`.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream, stream::BoxStream};
use sqlx::{
    Connection, Either, Execute, Executor, PgPool, PgTransaction, Postgres, SqlStr,
    error::BoxDynError,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{sync::OnceCell, time::Instant};

use crate::session::{Limits, PoolMode, Session, SessionFault, fault_of};

/// A connection that has rested for less is used without a test: each was tested when it was handed back, and a test is a round trip.
const TESTED_AFTER: Duration = Duration::from_secs(1);

/// Beyond the time that Postgres gives a statement: the way there and back.
const NETWORK_ALLOWANCE: Duration = Duration::from_secs(2);

/// The longest that a transaction may rest between two statements, below the shortest lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A server that only reads. After a failover it is the old primary, or a standby (Postgres' documentation, "PostgreSQL Error Codes").
const READ_ONLY_TRANSACTION: &str = "25006";

/// Connections to one database. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Inner>);

struct Inner {
    pool_options: PgPoolOptions,
    /// How a connection is made now.
    connect_options: Mutex<PgConnectOptions>,
    session: Session,
    statement_limit: Duration,
    /// Set once it is known that sessions are as `session` expects them.
    verified: OnceCell<()>,
    /// Why the last connection could not be prepared. sqlx logs it, tries again, and says only that no connection came in time.
    fault: Fault,
    current: Mutex<Current>,
}

type Fault = Arc<Mutex<Option<SessionFault>>>;

/// The pool that is used now.
struct Current {
    pool: PgPool,
    /// Counts pools, so that a pool is given up once by all that wait for it.
    generation: u64,
    /// When Postgres answered last, be it with an error, or when this pool took the place of another one.
    answered_at: Instant,
    /// When the last pool was given up.
    given_up_at: Option<Instant>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.current().pool).finish()
    }
}

impl Connections {
    /// Connections that are opened when they are first used. Postgres ends a statement after `statement_timeout`, and waiting for a lock
    /// after `lock_timeout`.
    pub fn new(
        pool_options: PgPoolOptions,
        connect_options: PgConnectOptions,
        pool_mode: PoolMode,
        statement_timeout: Duration,
        lock_timeout: Option<Duration>,
    ) -> Self {
        let limits = Limits {
            statement: Some(statement_timeout),
            lock: lock_timeout,
            idle_in_transaction: statement_timeout.min(LONGEST_PAUSE),
        };
        let session = Session::new(pool_mode, &limits, &connect_options);
        let statement_limit = statement_timeout + NETWORK_ALLOWANCE;
        let fault = Fault::default();
        let pool_options = with_hooks(pool_options, session.clone(), fault.clone(), statement_limit);
        let pool = pool_options.clone().connect_lazy_with(connect_options.clone());
        let current = Mutex::new(Current { pool, generation: 0, answered_at: Instant::now(), given_up_at: None });
        let verified = OnceCell::new();
        let connect_options = Mutex::new(connect_options);
        Self(Arc::new(Inner { pool_options, connect_options, session, statement_limit, verified, fault, current }))
    }

    /// Makes connections in another way from now on. Those that are open stay: Postgres asks for a password once.
    pub fn connect_with(&self, options: PgConnectOptions) {
        lock(&self.0.connect_options).clone_from(&options);
        self.current().pool.set_connect_options(options);
    }

    /// How a connection is made.
    pub fn connect_options(&self) -> PgConnectOptions {
        lock(&self.0.connect_options).clone()
    }

    /// Finds out once, with connections of its own, whether sessions are as they are expected.
    pub async fn verify_sessions(&self) -> Result<(), sqlx::Error> {
        let inner = &self.0;
        let verify = async {
            let limit = inner.pool_options.get_acquire_timeout();
            let options = self.connect_options();
            let verified = tokio::time::timeout(limit, inner.session.verify(&options)).await;
            verified.unwrap_or(Err(sqlx::Error::PoolTimedOut))
        };
        inner.verified.get_or_try_init(|| verify).await?;
        Ok(())
    }

    /// Gives up all connections, so that new ones are opened, unless that was done just now.
    pub fn reconnect(&self) {
        let generation = self.current().generation;
        self.give_up(generation);
    }

    /// Begins a transaction, which is rolled back when it is dropped.
    ///
    /// `begin` runs to its end in a task of its own even when the caller is cancelled: sqlx forgets a transaction whose
    /// `begin` was cancelled after it was sent, and the connection would return to the pool within it, with its locks.
    pub async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        let connections = self.clone();
        let begin = async move {
            let Held { connection, generation } = connections.acquire().await?;
            let begun = sqlx::Transaction::begin(connection, connections.0.session.begin());
            let inner = connections.bounded(generation, begun).await?;
            Ok(Transaction { inner, connections, generation })
        };
        tokio::spawn(begin).await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }

    /// A connection. Who waited for one of a pool that was given up meanwhile gets one of the pool in its place.
    async fn acquire(&self) -> Result<Held, sqlx::Error> {
        match self.acquire_once().await {
            Err(sqlx::Error::PoolClosed) => self.acquire_once().await,
            acquired => acquired,
        }
    }

    async fn acquire_once(&self) -> Result<Held, sqlx::Error> {
        let (pool, generation) = {
            let current = self.current();
            (current.pool.clone(), current.generation)
        };
        match pool.acquire().await {
            Ok(connection) => Ok(Held { connection, generation }),
            Err(error) => {
                // All connections may be in use, and then their statements are answered.
                let is_silent = self.current().answered_at.elapsed() > self.0.statement_limit;
                if matches!(error, sqlx::Error::PoolTimedOut) && is_silent {
                    self.give_up(generation);
                }
                let fault = matches!(error, sqlx::Error::PoolTimedOut).then(|| lock(&self.0.fault).clone()).flatten();
                Err(fault.map_or(error, Into::into))
            }
        }
    }

    /// Waits for an answer on a connection of pool number `generation`, and gives that pool up if none comes.
    async fn bounded<T>(
        &self,
        generation: u64,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let limit = self.0.statement_limit;
        let Ok(result) = tokio::time::timeout(limit, work).await else {
            self.give_up(generation);
            let silent = io::Error::new(io::ErrorKind::TimedOut, format!("Postgres did not answer within {limit:?}"));
            return Err(sqlx::Error::Io(silent));
        };
        self.current().answered_at = Instant::now();
        if let Err(sqlx::Error::Database(error)) = &result
            && error.code().as_deref() == Some(READ_ONLY_TRANSACTION)
        {
            // The address may lead to another server by now, and only a new connection finds out.
            self.give_up(generation);
        }
        result
    }

    /// Replaces pool number `generation`, unless that was done already, or just now: a server that is away, or only reads, for hours
    /// gets no new connections with every statement.
    fn give_up(&self, generation: u64) {
        let mut current = self.current();
        let is_soon = current.given_up_at.is_some_and(|at| at.elapsed() < self.0.statement_limit);
        if current.generation != generation || is_soon {
            return;
        }
        tracing::warn!("the connections to Postgres are given up, and new ones are opened");
        metrics::counter!("leadline_ledger_pools_given_up_total").increment(1);
        let fresh = self.0.pool_options.clone().connect_lazy_with(self.connect_options());
        let given_up = std::mem::replace(&mut current.pool, fresh);
        current.generation += 1;
        (current.answered_at, current.given_up_at) = (Instant::now(), Some(Instant::now()));
        drop(current);
        // Who waits for one of its connections is told at once. A statement that is under way still gets its answer.
        tokio::spawn(async move { given_up.close().await });
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        lock(&self.0.current)
    }
}

/// The same options, but each connection is told first what `session` is told, within `limit`. Keeps why one could not be. A connection that
/// is used again is tested only if it has rested.
fn with_hooks(pool_options: PgPoolOptions, session: Session, fault: Fault, limit: Duration) -> PgPoolOptions {
    let tested = pool_options.test_before_acquire(false).before_acquire(|connection, about| {
        Box::pin(async move {
            let tested = if about.idle_for < TESTED_AFTER { Ok(()) } else { connection.ping().await };
            if let Err(error) = &tested {
                tracing::info!(%error, "a connection to Postgres has ended while it rested");
            }
            Ok(tested.is_ok())
        })
    });
    tested.after_connect(move |connection, _| {
        let (session, fault) = (session.clone(), fault.clone());
        Box::pin(async move {
            let established = tokio::time::timeout(limit, session.establish(connection)).await;
            let established = established.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            *lock(&fault) = established.as_ref().err().and_then(fault_of).cloned();
            established
        })
    })
}

/// Held for a few instructions only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is in use.
struct Held {
    connection: sqlx::pool::PoolConnection<Postgres>,
    generation: u64,
}

/// A transaction whose every statement is bounded.
#[derive(Debug)]
pub(crate) struct Transaction {
    inner: PgTransaction<'static>,
    connections: Connections,
    generation: u64,
}

impl Transaction {
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.connections.bounded(self.generation, self.inner.commit()).await
    }
}

/// A statement that the session keeps prepared, if it may: for the next transaction of the same connection.
struct Prepared<E> {
    query: E,
    is_kept: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Prepared<E> {
    fn sql(self) -> SqlStr {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.is_kept && self.query.persistent()
    }
}

impl<'c> Executor<'c> for &'c Connections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        whole(async move {
            if self.0.session.is_own() {
                let mut held = self.acquire().await?;
                return self.bounded(held.generation, held.connection.fetch_many(query).try_collect::<Vec<_>>()).await;
            }
            let mut transaction = self.begin().await?;
            let rows = transaction.fetch_many(query).try_collect().await?;
            transaction.commit().await?;
            Ok(rows)
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            if self.0.session.is_own() {
                let mut held = self.acquire().await?;
                return self.bounded(held.generation, held.connection.fetch_optional(query)).await;
            }
            let mut transaction = self.begin().await?;
            let row = transaction.fetch_optional(query).await?;
            transaction.commit().await?;
            Ok(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut held = self.acquire().await?;
            self.bounded(held.generation, held.connection.prepare_with(sql, parameters)).await
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut held = self.acquire().await?;
            self.bounded(held.generation, held.connection.describe(sql)).await
        })
    }
}

impl<'t> Executor<'t> for &'t mut Transaction {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = Prepared { query, is_kept: self.connections.0.session.is_own() };
        let rows = self.inner.fetch_many(query).try_collect::<Vec<_>>();
        whole(self.connections.bounded(self.generation, rows))
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        't: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let query = Prepared { query, is_kept: self.connections.0.session.is_own() };
        self.connections.bounded(self.generation, self.inner.fetch_optional(query)).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        't: 'e,
    {
        self.connections.bounded(self.generation, self.inner.prepare_with(sql, parameters)).boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, sqlx::Error>>
    where
        't: 'e,
    {
        self.connections.bounded(self.generation, self.inner.describe(sql)).boxed()
    }
}

/// The rows of a statement, taken whole: the bound is for all of its answer, which is of bounded length.
fn whole<'e>(
    rows: impl Future<Output = Result<Vec<Either<PgQueryResult, PgRow>>, sqlx::Error>> + Send + 'e,
) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>> {
    rows.map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten_stream().boxed()
}
