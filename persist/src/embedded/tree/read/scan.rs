//! One record after the other, out of memory and trees.

use super::{Found, Reading, decode};
use crate::Record;
use crate::embedded::tree::bucket::Bucket;
use crate::embedded::tree::state::Head;
use crate::embedded::tree::{LATEST, Log, TreeError, record_key};
use lsm_tree::{AbstractTree, Guard, Slice};
use ringpost_proto::id::{ConversationId, Seq};
use std::iter::Peekable;

/// Records of memory that are looked at in one go. Most answers need fewer.
const CHUNK: usize = 128;

type Form = (Seq, Slice);

impl Reading<'_> {
    /// Gives the kept records from..=to to `each`, in either direction, until it has enough. It starts at the first one, so
    /// what was there once and has gone costs nothing.
    pub(super) fn scan(
        &self,
        id: &ConversationId,
        head: &Head,
        from: Seq,
        to: Seq,
        upwards: bool,
        mut each: impl FnMut(Record) -> bool,
    ) -> Found<()> {
        let spans = head.spans.iter().enumerate().map(|(n, span)| {
            let next = head.spans.get(n + 1).map_or(Seq::MAX, |next| next.first - 1);
            (span.bucket, from.max(span.first), to.min(next))
        });
        let mut spans: Vec<_> = spans.filter(|(_, from, to)| from <= to).collect();
        if !upwards {
            spans.reverse();
        }
        for (bucket, from, to) in spans {
            let Some(log) = self.trees.log(bucket) else { continue };
            if !self.scan_log(id, bucket, &log, (from, to), upwards, &mut each)? {
                break;
            }
        }
        Ok(())
    }

    /// The same within one month. Returns whether it wants more. Memory is looked at before the tree, as a checkpoint moves
    /// what is there into the tree: what follows a chunk is looked for anew in both.
    fn scan_log(
        &self,
        id: &ConversationId,
        bucket: Bucket,
        log: &Log,
        (mut from, mut to): (Seq, Seq),
        upwards: bool,
        each: &mut impl FnMut(Record) -> bool,
    ) -> Found<bool> {
        loop {
            let newer = log.newer.chunk(id, (from, to), upwards, CHUNK);
            let end = newer.records.last().map(|(seq, _)| *seq).filter(|_| newer.more);
            let (first, last) = if upwards { (from, end.unwrap_or(to)) } else { (end.unwrap_or(from), to) };
            let rows = log.tree.range(record_key(id, first)..=record_key(id, last), LATEST, None);
            let older: Box<dyn Iterator<Item = _>> = if upwards { rows } else { Box::new(rows.rev()) };
            let older = older.map(|row| {
                let (key, form) = row.into_inner().map_err(TreeError::of(bucket))?;
                Ok((key.last_chunk().map_or(0, |seq| Seq::from_be_bytes(*seq)), form))
            });
            let merged = Merged { newer: newer.records.into_iter().peekable(), older: older.peekable(), upwards };
            for form in merged {
                self.count(1);
                if !each(decode(bucket, &form?.1)?) {
                    return Ok(false);
                }
            }
            match end {
                None => return Ok(true),
                Some(end) if upwards => from = end + 1,
                Some(end) => to = end - 1,
            }
        }
    }
}

/// Both in one order; of two with one position the newer one.
struct Merged<N: Iterator, O: Iterator> {
    newer: Peekable<N>,
    older: Peekable<O>,
    upwards: bool,
}

impl<N: Iterator<Item = Form>, O: Iterator<Item = Found<Form>>> Iterator for Merged<N, O> {
    type Item = Found<Form>;

    fn next(&mut self) -> Option<Found<Form>> {
        let Some((seq, _)) = self.newer.peek() else { return self.older.next() };
        let older = match self.older.peek() {
            Some(Ok((older, _))) => Some(*older),
            Some(Err(_)) => return self.older.next(),
            None => None,
        };
        match older {
            Some(older) if if self.upwards { older < *seq } else { older > *seq } => self.older.next(),
            Some(older) if older == *seq => {
                self.older.next();
                self.newer.next().map(Ok)
            }
            _ => self.newer.next().map(Ok),
        }
    }
}
