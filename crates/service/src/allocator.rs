//! The memory allocator of the services: jemalloc. A service uses it by naming this crate, `use allocator as _`.
//!
//! Events come and go by the thousand, and glibc's allocator keeps a quarter more than is in use and takes a sixth of the
//! CPU time more (docs/performance.md). How jemalloc is tuned stands in `.cargo/config.toml`, because it is built in;
//! `_RJEM_MALLOC_CONF` in the environment overrides it.

#[global_allocator]
static JEMALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
