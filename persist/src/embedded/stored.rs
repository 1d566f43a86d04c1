//! A record beside its stored form, which log and trees share: it is written down once.

use crate::Record;
use crate::record::RecordError;
use lsm_tree::Slice;
use std::sync::Arc;

pub(super) struct Stored {
    pub(super) record: Arc<Record>,
    pub(super) form: Slice,
}

impl Stored {
    pub(super) fn new(record: Arc<Record>) -> Self {
        let mut form = Vec::with_capacity(record.cost() + 64);
        record.encode(&mut form);
        Self { record, form: form.into() }
    }

    /// As it was written; of a record there is one stored form.
    pub(super) fn read(form: &[u8]) -> Result<Self, RecordError> {
        Ok(Self { record: Arc::new(Record::decode(form)?), form: form.into() })
    }
}
