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

use super::db::rows;
use super::failure::Failed;
use super::{OpenError, Options};
use scylla::client::session::Session;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds for which a row of `recent` is kept.
const RECENT_S: u32 = 2 * 24 * 3_600;

/// A table as this version makes it and needs it.
struct Table {
    name: &'static str,
    /// Names and types.
    columns: &'static [(&'static str, &'static str)],
    key: &'static str,
}

const TABLES: &[Table] = &[
    Table {
        name: "log",
        columns: &[
            ("conv", "blob"),
            ("bucket", "bigint"),
            ("seq", "bigint"),
            ("bhead", "bigint static"),
            ("kind", "blob static"),
            ("record", "blob"),
            ("body", "blob"),
        ],
        key: "(conv, bucket), seq",
    },
    Table { name: "body", columns: &[("id", "blob"), ("bytes", "blob")], key: "id" },
    Table { name: "conv", columns: &[("conv", "blob"), ("as_of", "bigint"), ("snapshot", "blob")], key: "conv" },
    Table {
        name: "member",
        columns: &[
            ("conv", "blob"),
            ("user", "blob"),
            ("read", "bigint"),
            ("read_counted", "bigint"),
            ("read_shown", "bigint"),
            ("told_delivered", "bigint"),
            ("told_read", "bigint"),
            ("delivered", "map<text, bigint>"),
            ("tick_delivered", "map<text, bigint>"),
            ("tick_read", "map<text, bigint>"),
            ("missed", "map<text, bigint>"),
        ],
        key: "conv, user",
    },
    Table { name: "user", columns: &[("user", "blob"), ("conv", "blob")], key: "user, conv" },
    Table {
        name: "recent",
        columns: &[("vnode", "int"), ("minute", "bigint"), ("conv", "blob")],
        key: "(vnode, minute), conv",
    },
    Table {
        name: "dedupe",
        columns: &[("conv", "blob"), ("sender", "blob"), ("device", "text"), ("cmid", "blob"), ("seq", "bigint")],
        key: "(conv, sender, device), cmid",
    },
    Table {
        name: "document",
        columns: &[("user", "blob"), ("which", "tinyint"), ("version", "bigint"), ("bytes", "blob")],
        key: "user, which",
    },
    Table {
        name: "otk",
        columns: &[("user", "blob"), ("device", "text"), ("number", "bigint"), ("bytes", "blob")],
        key: "(user, device), number",
    },
];

/// The columns of each table that is there.
type Found = BTreeMap<String, BTreeSet<String>>;

/// Makes what is missing, and takes the keyspace into use. A table that is there is left as it is; where one lacks a column,
/// the keyspace is refused, before anything of it is changed.
pub(super) async fn prepare(session: &Session, options: &Options) -> Result<(), OpenError> {
    let failed = |failed: Failed| OpenError::Schema(failed.to_string());
    make_keyspace(session, options).await.map_err(failed)?;
    let found = found(session, &options.keyspace).await.map_err(failed)?;
    if let Some(lacking) = lacking(&found) {
        return Err(OpenError::Earlier { keyspace: options.keyspace.clone(), lacking });
    }
    make_tables(session, options).await.map_err(failed)?;
    session.use_keyspace(&options.keyspace, true).await.map_err(|error| OpenError::Schema(error.to_string()))
}

async fn make_keyspace(session: &Session, options: &Options) -> Result<(), Failed> {
    // Only ScyllaDB has shards, tablets and a syntax for them. Conditional writes need a keyspace without tablets but in its
    // latest versions.
    let is_scylla = session.get_cluster_state().get_nodes_info().iter().any(|node| node.sharder().is_some());
    session.query_unpaged(keyspace(options, is_scylla), ()).await?;
    Ok(())
}

async fn found(session: &Session, keyspace: &str) -> Result<Found, Failed> {
    let columns = "SELECT table_name, column_name FROM system_schema.columns WHERE keyspace_name = ?";
    let mut found = Found::new();
    for (table, column) in rows::<(String, String)>(session.query_unpaged(columns, (keyspace,)).await?)? {
        found.entry(table).or_default().insert(column);
    }
    Ok(found)
}

/// What the tables that are there lack; `None`: nothing.
fn lacking(found: &Found) -> Option<String> {
    let of_table = |table: &Table| {
        let there = found.get(table.name)?;
        let names = table.columns.iter().map(|(name, _)| *name).filter(|name| !there.contains(*name));
        let names = names.collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("table {} has no {names}", table.name))
    };
    let lacking: Vec<_> = TABLES.iter().filter_map(of_table).collect();
    (!lacking.is_empty()).then(|| lacking.join("; "))
}

async fn make_tables(session: &Session, options: &Options) -> Result<(), Failed> {
    for table in TABLES {
        session.query_unpaged(create(&options.keyspace, table), ()).await?;
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

fn create(keyspace: &str, Table { name, columns, key }: &Table) -> String {
    let columns: String = columns.iter().map(|(name, kind)| format!("{name} {kind}, ")).collect();
    let recent = if *name == "recent" {
        format!(
            " AND default_time_to_live = {RECENT_S} AND compaction = {{'class': 'TimeWindowCompactionStrategy', \
             'compaction_window_unit': 'HOURS', 'compaction_window_size': 2}}"
        )
    } else {
        String::new()
    };
    // Reads that a replica does not answer are asked of another one soon, not when they time out.
    format!(
        "CREATE TABLE IF NOT EXISTS \"{keyspace}\".{name} ({columns}PRIMARY KEY ({key})) WITH speculative_retry = '50ms'{recent}"
    )
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
        let expiring = TABLES.iter().filter(|table| create("k", table).contains("time_to_live"));
        assert_eq!(expiring.map(|table| table.name).collect::<Vec<_>>(), ["recent"]);
    }

    #[test]
    fn a_table_is_made_with_its_columns_and_key() {
        let log = create("k", &TABLES[0]);
        let columns =
            "conv blob, bucket bigint, seq bigint, bhead bigint static, kind blob static, record blob, body blob";
        let made = format!("CREATE TABLE IF NOT EXISTS \"k\".log ({columns}, PRIMARY KEY ((conv, bucket), seq)) WITH ");
        assert!(log.starts_with(&made), "{log}");
    }

    #[test]
    fn tables_that_lack_columns_are_named_with_them() {
        let names = |table: &Table| table.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut found: Found = TABLES.iter().map(|table| (table.name.to_owned(), names(table))).collect();
        assert_eq!((lacking(&Found::new()), lacking(&found)), (None, None), "nothing is there, or everything");
        // A later version may need more of a table, and other tables.
        found.entry("member".into()).or_default().insert("later".into());
        found.insert("later".into(), BTreeSet::new());
        found.remove("otk");
        assert_eq!(lacking(&found), None);
        for column in ["missed", "told_read"] {
            found.entry("member".into()).or_default().remove(column);
        }
        found.entry("log".into()).or_default().remove("body");
        let expected = "table log has no body; table member has no told_read, missed";
        assert_eq!(lacking(&found).as_deref(), Some(expected));
    }
}
