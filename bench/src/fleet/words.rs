//! What coordinator and workers say to each other.
//!
//! An opening: hello, hello, proof, proof, part, ready; instead of its word each side may say why it refuses. Then orders go
//! down and words come up, until what was found has come or the connection ends.

use super::secret::{Challenge, Proof};
use crate::load::Stage;
use crate::progress::Counts;
use crate::report::Connections;
use ringpost_gateway::auth::SigningKey;
use serde::{Deserialize, Serialize};

/// Raised when what is said changes. [`Opening::Hello`] itself stays as it is, so that another version can be told.
pub const PROTOCOL: u32 = 2;

/// Bytes at most: before it is known who is there, of a part, of orders, and of what was found (256 slices of two histograms are
/// below 2 MiB, each of the others 1 MiB at most).
pub const MOST_HELLO: usize = 1 << 10;
pub const MOST_PART: usize = 256 << 10;
pub const MOST_ORDER: usize = 256;
pub const MOST_WORD: usize = 32 << 20;

/// Until the run begins, both ways.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    Hello {
        protocol: u32,
        version: String,
        challenge: Challenge,
    },
    Proof(Proof),
    Part(Part),
    /// The worker's limits allow its part: its plan.
    Ready(String),
    Refused(String),
}

/// What one worker does of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The coordinator's command line, without the program's name.
    pub arguments: Vec<String>,
    /// Its number among so many workers; its share of everything follows.
    pub index: u32,
    pub of: u32,
    /// Tells this run's texts from others'; of all workers.
    pub seed: u64,
    /// Signs tokens; `None`: the development key does.
    pub key: Option<SigningKey>,
}

/// From the coordinator while the run is on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// This stage begins.
    Stage(Stage),
    /// The coordinator lives.
    Beat,
}

/// From a worker while the run is on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word<F> {
    /// So far; says that the worker lives, too.
    Counts(Counts),
    /// All that the worker had to do in this stage is done.
    Done(Stage),
    /// The end: the sums of the worker's threads.
    Found {
        found: F,
        connections: Connections,
        /// Percent of the processor time wanted on the worker's machine that went to others on its host.
        stolen: Option<f64>,
    },
    BrokeOff(String),
}
