//! The keyspace and its tables, made where they are missing.
//!
//! | table | key | what |
//! |---|---|---|
//! | `log` | (conv, bucket), seq | records; `bhead`, the head of the bucket, and all else here is written by conditional writes only, whose clock is their own. `kind`: in bucket 0 |
//! | `body` | id | bodies of more than 4 KiB, written before the record that refers to them |
//! | `conv` | conv | a snapshot of what follows from the records up to `as_of`; a hint |
//! | `member` | conv, user | registers: Read and what belongs to it, Delivered and ticks by device, what a user is told of a group, what it missed (by first position) |
//! | `user` | user, conv | whose list a conversation is in, or may be: written before the record that says so |
//! | `recent` | (vnode, minute), conv | conversations that were written to; two days |
//! | `dedupe` | (conv, sender, device), cmid | where the records up to the snapshot are |
//! | `document` | user, which | small documents, conditional writes only |
//! | `otk` | (user, device), number | items that are handed out once, conditional writes only |
//!
//! Positions are bigint; an item's number has its top bit turned, so that all numbers have their order.

use super::failure::Failed;
use super::{OpenError, Options};
use scylla::client::session::Session;

/// Seconds for which a row of `recent` is kept.
const RECENT_S: u32 = 2 * 24 * 3_600;

/// Reads that a replica does not answer are asked of another one soon, not when they time out.
const TABLES: &[(&str, &str)] = &[
    (
        "log",
        "conv blob, bucket bigint, seq bigint, bhead bigint static, kind blob static, record blob, body blob, \
         PRIMARY KEY ((conv, bucket), seq)",
    ),
    ("body", "id blob PRIMARY KEY, bytes blob"),
    ("conv", "conv blob PRIMARY KEY, as_of bigint, snapshot blob"),
    (
        "member",
        "conv blob, user blob, read bigint, read_counted bigint, read_shown bigint, told_delivered bigint, \
         told_read bigint, delivered map<text, bigint>, tick_delivered map<text, bigint>, tick_read map<text, bigint>, \
         missed map<text, bigint>, PRIMARY KEY (conv, user)",
    ),
    ("user", "user blob, conv blob, PRIMARY KEY (user, conv)"),
    ("recent", "vnode int, minute bigint, conv blob, PRIMARY KEY ((vnode, minute), conv)"),
    (
        "dedupe",
        "conv blob, sender blob, device text, cmid blob, seq bigint, PRIMARY KEY ((conv, sender, device), cmid)",
    ),
    ("document", "user blob, which tinyint, version bigint, bytes blob, PRIMARY KEY (user, which)"),
    ("otk", "user blob, device text, number bigint, bytes blob, PRIMARY KEY ((user, device), number)"),
];

/// Makes what is missing, and takes the keyspace into use. A keyspace that is there is left as it is.
pub(super) async fn prepare(session: &Session, options: &Options) -> Result<(), OpenError> {
    make(session, options).await.map_err(|failed| OpenError::Schema(failed.to_string()))?;
    session.use_keyspace(&options.keyspace, true).await.map_err(|error| OpenError::Schema(error.to_string()))
}

async fn make(session: &Session, options: &Options) -> Result<(), Failed> {
    // Only ScyllaDB has shards, tablets and a syntax for them. Conditional writes need a keyspace without tablets but in its
    // latest versions.
    let is_scylla = session.get_cluster_state().get_nodes_info().iter().any(|node| node.sharder().is_some());
    session.query_unpaged(keyspace(options, is_scylla), ()).await?;
    for (name, columns) in TABLES {
        session.query_unpaged(table(&options.keyspace, name, columns), ()).await?;
    }
    Ok(())
}

fn keyspace(options: &Options, is_scylla: bool) -> String {
    let tablets = if is_scylla { " AND tablets = {'enabled': false}" } else { "" };
    let centers: String = options.replication.iter().map(|(name, factor)| format!(", '{name}': {factor}")).collect();
    format!(
        "CREATE KEYSPACE IF NOT EXISTS \"{}\" WITH replication = {{'class': 'NetworkTopologyStrategy'{centers}}}{tablets}",
        options.keyspace
    )
}

fn table(keyspace: &str, name: &str, columns: &str) -> String {
    let recent = if name == "recent" {
        format!(
            " AND default_time_to_live = {RECENT_S} AND compaction = {{'class': 'TimeWindowCompactionStrategy', \
             'compaction_window_unit': 'HOURS', 'compaction_window_size': 2}}"
        )
    } else {
        String::new()
    };
    format!("CREATE TABLE IF NOT EXISTS \"{keyspace}\".{name} ({columns}) WITH speculative_retry = '50ms'{recent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scylladb_is_told_of_tablets() {
        let mut options = Options::new(Vec::new(), 1);
        options.replication = vec![("east".into(), 3), ("west".into(), 2)];
        assert_eq!(
            keyspace(&options, false),
            "CREATE KEYSPACE IF NOT EXISTS \"ringpost\" WITH replication = {'class': 'NetworkTopologyStrategy', \
             'east': 3, 'west': 2}"
        );
        assert!(keyspace(&options, true).ends_with("} AND tablets = {'enabled': false}"));
    }

    #[test]
    fn only_recent_rows_go_by_themselves() {
        let expiring = TABLES.iter().filter(|(name, columns)| table("k", name, columns).contains("time_to_live"));
        assert_eq!(expiring.map(|(name, _)| *name).collect::<Vec<_>>(), ["recent"]);
    }
}
