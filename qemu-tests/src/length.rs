//! How long a run of tests may take.

/// How long a run of tests may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Ten hostile containers for a minute, a board at rest for ten seconds: in every run.
    Short,
    /// Ten minutes, and an hour: `cargo accept --long`.
    Long,
}
