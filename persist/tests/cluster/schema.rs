//! Keyspaces that are there already.

use crate::support::{Admin, Cluster, alone, keyspace, options};
use ringpost_persist::scylla::{OpenError, open};

#[test]
fn a_keyspace_of_an_earlier_version_is_refused_in_one_line_and_left_as_it_is() {
    let _alone = alone();
    let (keyspace, admin) = (keyspace("earlier"), Admin::new());
    drop(Cluster::open(&keyspace));
    // As it was before members missed anything, and before there was another table.
    admin.run(&format!("ALTER TABLE {keyspace}.member DROP missed"));
    admin.run(&format!("ALTER TABLE {keyspace}.member DROP told_read"));
    admin.run(&format!("DROP TABLE {keyspace}.otk"));
    let refused = open(options(&keyspace)).err().expect("it lacks columns");
    assert!(matches!(refused, OpenError::Earlier { .. }), "{refused}");
    let line = refused.to_string();
    let made = format!("keyspace {keyspace} was made by an earlier version");
    assert!(line.starts_with(&made) && line.ends_with("table member has no told_read, missed"), "{line}");
    assert!(!line.contains('\n'));
    let tables = format!("SELECT count(*) FROM system_schema.tables WHERE keyspace_name = '{keyspace}'");
    assert_eq!(admin.count(&tables), 8);
    // Once somebody has added what it lacks, it opens.
    admin.run(&format!("ALTER TABLE {keyspace}.member ADD missed map<text, bigint>"));
    admin.run(&format!("ALTER TABLE {keyspace}.member ADD told_read bigint"));
    drop(Cluster::open(&keyspace));
    assert_eq!(admin.count(&tables), 9);
}
