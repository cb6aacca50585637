//! What every service's `main` consists of: settings are read, telemetry and the internal listener start, the service runs
//! until SIGTERM, and the exit code says how it ended. [`main()`] does all of it.
//!
//! A service's `main.rs` also chooses the memory allocator, because a library that did so would choose it for every program
//! that links it:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: service::Jemalloc = service::Jemalloc;
//! ```

mod admin;
mod error;
mod frame;
mod head_timer;
pub mod listener;
mod log_limit;
mod open_files;
mod peers;
mod probe;
mod readiness;
mod reload;
mod span_export;
mod telemetry;
mod tls;

pub use error::ServiceFailure;
pub use frame::{Wired, main, settings_info};
pub use log_limit::LogLimit;
pub use open_files::{TooFewFiles, make_room};
pub use peers::{Holding, LimitReached, Peer, PeerLimit};
pub use readiness::Readiness;
pub use reload::Reload;
/// The memory allocator of the services. They allocate and free by the thousand events: glibc's allocator holds a quarter
/// more memory than is in use and takes a sixth more CPU time (docs/performance.md). It is tuned when it is built, in
/// `.cargo/config.toml`; `_RJEM_MALLOC_CONF` in the environment overrides that.
pub use tikv_jemallocator::Jemalloc;
pub use tls::{ServerTls, ServerTlsError};
