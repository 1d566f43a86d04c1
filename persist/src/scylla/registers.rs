//! Registers: cells of `member`, each written with its own value as the stamp, so that of two writes the larger value stays,
//! in whatever order they arrive, however often, and whoever sends them.

use super::db::{Db, each};
use super::failure::Failed;
use super::rows::{bigint, blob, unsigned};
use crate::ranges::{self, Ranges};
use crate::{MISSED_RANGES, Raise, RegisterKey, Shown};
use ringpost_proto::id::{ConversationId, DeviceId, Seq, UserKey};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A node may refuse what is stamped days ahead of its clock, which is in microseconds since 1970. No position comes near it; a
/// range without an end is stamped with it.
const FARTHEST: u64 = 1 << 50;

/// Writes of one batch at most.
const BATCH: usize = 256;

/// The registers of a user in a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) read: Seq,
    pub(super) read_counted: Seq,
    read_shown: Seq,
    pub(super) told_delivered: Seq,
    pub(super) told_read: Seq,
    pub(super) delivered: BTreeMap<DeviceId, Seq>,
    tick_delivered: BTreeMap<DeviceId, Seq>,
    tick_read: BTreeMap<DeviceId, Seq>,
    pub(super) missed: Ranges,
}

impl Progress {
    pub(super) fn most_delivered(&self) -> Seq {
        self.delivered.values().copied().max().unwrap_or(0)
    }

    /// What others are shown of what it has read.
    pub(super) fn shown(&self) -> Shown {
        Shown(self.read_shown)
    }

    /// Of each device that has heard a tick: delivered, read.
    pub(super) fn ticks(&self) -> Vec<(DeviceId, Seq, Seq)> {
        let mut ticks: BTreeMap<DeviceId, (Seq, Seq)> = BTreeMap::new();
        self.tick_delivered.iter().for_each(|(device, seq)| ticks.entry(*device).or_default().0 = *seq);
        self.tick_read.iter().for_each(|(device, seq)| ticks.entry(*device).or_default().1 = *seq);
        ticks.into_iter().map(|(device, (delivered, read))| (device, delivered, read)).collect()
    }
}

/// Those of a conversation.
#[derive(Debug, Default)]
pub(super) struct Registers {
    pub(super) of: BTreeMap<UserKey, Progress>,
}

impl Registers {
    /// What a room is told: no ticks, which are the sessions' own.
    pub(super) fn of_room(&self, id: ConversationId) -> Vec<(RegisterKey, Seq)> {
        let mut registers = Vec::new();
        for (user, progress) in &self.of {
            let delivered = progress.delivered.iter();
            registers.extend(delivered.map(|(device, seq)| (RegisterKey::Delivered(id, user.clone(), *device), *seq)));
            registers.push((RegisterKey::Read(id, user.clone()), progress.read));
            registers.push((RegisterKey::ReadCounted(id, user.clone()), progress.read_counted));
            registers.push((RegisterKey::ReadShown(id, user.clone()), progress.read_shown));
            registers.push((RegisterKey::ToldDelivered(id, user.clone()), progress.told_delivered));
            registers.push((RegisterKey::ToldRead(id, user.clone()), progress.told_read));
            let missed = progress.missed.iter();
            registers.extend(missed.map(|(from, to)| (RegisterKey::Missed(id, user.clone(), *from), *to)));
        }
        registers.retain(|(_, value)| *value > 0);
        registers
    }
}

type Devices = Option<HashMap<String, i64>>;
/// The columns that the statements on a member read, in their order.
type Cells =
    (Vec<u8>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Devices, Devices, Devices, Devices);

fn progress(cells: Cells) -> Result<(UserKey, Progress), Failed> {
    let (user, read, read_counted, read_shown, told_delivered, told_read, delivered, tick_delivered, tick_read, missed) =
        cells;
    let user = UserKey::from_bytes(&user).ok_or_else(|| Failed::unreadable("the name of a member"))?;
    let number = |cell: Option<i64>| cell.map_or(0, unsigned);
    let progress = Progress {
        read: number(read),
        read_counted: number(read_counted),
        read_shown: number(read_shown),
        told_delivered: number(told_delivered),
        told_read: number(told_read),
        delivered: devices(delivered)?,
        tick_delivered: devices(tick_delivered)?,
        tick_read: devices(tick_read)?,
        missed: ranges_of(missed)?,
    };
    Ok((user, progress))
}

/// By first position, in decimal digits.
fn ranges_of(cells: Devices) -> Result<Ranges, Failed> {
    let mut missed = Ranges::new();
    for (from, to) in cells.into_iter().flatten() {
        let from: Seq = from.parse().map_err(|_| Failed::unreadable("a position"))?;
        ranges::add(&mut missed, from, unsigned(to));
    }
    ranges::bound(&mut missed, MISSED_RANGES);
    Ok(missed)
}

/// A register of 0 is none.
fn devices(cells: Devices) -> Result<BTreeMap<DeviceId, Seq>, Failed> {
    let cells = cells.into_iter().flatten().filter(|(_, value)| *value > 0);
    let device = |(name, value): (String, i64)| {
        let device = DeviceId::new(&name).map_err(|_| Failed::unreadable("the name of a device"))?;
        Ok((device, unsigned(value)))
    };
    cells.map(device).collect()
}

impl Db {
    /// All of one conversation are one write; those of different conversations land each for itself.
    pub(super) async fn raise(self: Arc<Self>, raises: Vec<Raise>) -> Result<(), Failed> {
        let mut by_conversation: BTreeMap<ConversationId, Vec<Raise>> = BTreeMap::new();
        for raise in raises {
            by_conversation.entry(raise.key.conversation()).or_default().push(raise);
        }
        let batches = by_conversation.into_values().flat_map(|raises| {
            let batches: Vec<Vec<Raise>> = raises.chunks(BATCH).map(<[_]>::to_vec).collect();
            batches
        });
        each(batches.collect(), |raises| {
            let db = Arc::clone(&self);
            async move { db.write_all(raises.iter().map(|raise| db.cell(raise)).collect()).await }
        })
        .await?;
        Ok(())
    }

    fn cell(&self, Raise { key, value, stamp }: &Raise) -> (&PreparedStatement, Vec<CqlValue>) {
        let statements = &self.statements;
        let (statement, user, device) = match key {
            RegisterKey::Delivered(_, user, device) => (&statements.member_delivered, user, Some(device)),
            RegisterKey::Read(_, user) => (&statements.member_read, user, None),
            RegisterKey::ReadCounted(_, user) => (&statements.member_read_counted, user, None),
            RegisterKey::ReadShown(_, user) => (&statements.member_read_shown, user, None),
            RegisterKey::TickDelivered(_, user, device) => (&statements.member_tick_delivered, user, Some(device)),
            RegisterKey::TickRead(_, user, device) => (&statements.member_tick_read, user, Some(device)),
            RegisterKey::ToldDelivered(_, user) => (&statements.member_told_delivered, user, None),
            RegisterKey::ToldRead(_, user) => (&statements.member_told_read, user, None),
            RegisterKey::Missed(_, user, _) => (&statements.member_missed, user, None),
        };
        let mut values = vec![bigint((*stamp).min(FARTHEST))];
        values.extend(device.map(|device| CqlValue::Text(device.as_str().to_owned())));
        if let RegisterKey::Missed(.., from) = key {
            values.push(CqlValue::Text(from.to_string()));
        }
        values.extend([bigint(*value), blob(&key.conversation().0), blob(user.as_bytes())]);
        (statement, values)
    }

    pub(super) async fn registers(&self, id: &ConversationId) -> Result<Registers, Failed> {
        let rows = self.all::<Cells>(&self.statements.members_of, &[blob(&id.0)]).await?;
        Ok(Registers { of: rows.into_iter().map(progress).collect::<Result<_, _>>()? })
    }

    pub(super) async fn progress(&self, id: &ConversationId, user: &UserKey) -> Result<Progress, Failed> {
        let key = [blob(&id.0), blob(user.as_bytes())];
        let cells: Option<Cells> = self.first(&self.statements.member_of, &key).await?;
        let found = cells.map(progress).transpose()?;
        Ok(found.map(|(_, progress)| progress).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nothing_is_no_register() {
        let name = UserKey::new("t", "ann").unwrap();
        let map = |cells: &[(&str, i64)]| Some(cells.iter().map(|(name, seq)| ((*name).to_owned(), *seq)).collect());
        let cells = (
            name.as_bytes().to_vec(),
            None,
            Some(3),
            Some(9),
            Some(5),
            None,
            map(&[("phone", 7), ("old", 0)]),
            None,
            map(&[("tv", 2)]),
            map(&[("7", 8), ("4", 6)]),
        );
        let (user, progress) = progress(cells).unwrap();
        assert_eq!(user, name);
        let device = |name| DeviceId::new(name).unwrap();
        assert_eq!(progress.most_delivered(), 7);
        assert_eq!(progress.ticks(), [(device("tv"), 0, 2)]);
        let registers = Registers { of: [(user.clone(), progress)].into() };
        let id = ConversationId([1; 16]);
        let expected = [
            (RegisterKey::Delivered(id, user.clone(), device("phone")), 7),
            (RegisterKey::ReadCounted(id, user.clone()), 3),
            (RegisterKey::ReadShown(id, user.clone()), 9),
            (RegisterKey::ToldDelivered(id, user.clone()), 5),
            (RegisterKey::Missed(id, user, 4), 8),
        ];
        assert_eq!(registers.of_room(id), expected);
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        assert!(progress((vec![0xff], None, None, None, None, None, None, None, None, None)).is_err());
        assert!(ranges_of(Some([("x".to_owned(), 1)].into())).is_err());
        assert!(devices(Some([(String::new(), 1)].into())).is_err());
    }
}
