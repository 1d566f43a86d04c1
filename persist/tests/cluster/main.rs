//! The store of several boxes on a real node. `.ci/test cluster` starts one; by hand: `persist/tests/cassandra start DIR`, then
//! RINGPOST_TEST_CQL=127.0.0.1:9042 and RINGPOST_TEST_CASSANDRA=DIR (an absolute path) for these tests, and at the end
//! `persist/tests/cassandra stop DIR`. With three nodes (`start DIR 3`) also RINGPOST_TEST_REPLICATION=3.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod kill;
mod log;
mod races;
mod schema;
mod support;

use ringpost_persist::conformance;
use support::{Admin, Cluster, alone, keyspace};

#[test]
fn it_passes_the_conformance_suite() {
    let _alone = alone();
    let keyspace = keyspace("conformance");
    let admin = Admin::new();
    // To empty the tables is quicker than to make others.
    conformance::run(|| {
        admin.empty(&keyspace);
        Box::new(Cluster::open(&keyspace))
    });
}
