//! Registers: which row each of them is in, and whether a value raises it.

use super::Staging;
use crate::embedded::tree::TreeError;
use crate::embedded::tree::keys;
use crate::embedded::tree::state::{self, Device, Progress};
use crate::{MISSED_RANGES, Raise, RegisterKey, ranges};
use ringpost_proto::id::Seq;

impl Staging {
    /// Whether the register is higher with this batch.
    pub(in crate::embedded) fn raise(&mut self, raise: &Raise) -> Result<bool, TreeError> {
        let conversation = raise.key.conversation();
        let value = raise.value;
        Ok(match &raise.key {
            RegisterKey::Read(_, user)
            | RegisterKey::ReadCounted(_, user)
            | RegisterKey::ReadShown(_, user)
            | RegisterKey::ToldDelivered(_, user)
            | RegisterKey::ToldRead(_, user) => {
                let key = keys::progress_key(&conversation, user);
                let mut row = self.rows.read(&key, Progress::decode)?;
                let register = match &raise.key {
                    RegisterKey::ReadCounted(..) => &mut row.counted,
                    RegisterKey::ReadShown(..) => &mut row.shown,
                    RegisterKey::ToldDelivered(..) => &mut row.told_delivered,
                    RegisterKey::ToldRead(..) => &mut row.told_read,
                    _ => &mut row.read,
                };
                grow(register, value) && self.rows.write(key, row.encode())
            }
            RegisterKey::Missed(_, user, from) => {
                let key = keys::missed_key(&conversation, user);
                let mut missed = self.rows.read(&key, state::decode_missed)?;
                let grows = ranges::add(&mut missed, *from, value);
                ranges::bound(&mut missed, MISSED_RANGES);
                grows && self.rows.write(key, state::encode_missed(&missed))
            }
            RegisterKey::Delivered(_, user, device)
            | RegisterKey::TickDelivered(_, user, device)
            | RegisterKey::TickRead(_, user, device) => {
                let key = keys::device_key(&conversation, user, device);
                let mut row = self.rows.read(&key, Device::decode)?;
                let register = match &raise.key {
                    RegisterKey::TickDelivered(..) => &mut row.tick_delivered,
                    RegisterKey::TickRead(..) => &mut row.tick_read,
                    _ => &mut row.delivered,
                };
                grow(register, value) && self.rows.write(key, row.encode())
            }
        })
    }
}

fn grow(register: &mut Seq, value: Seq) -> bool {
    let grows = value > *register;
    if grows {
        *register = value;
    }
    grows
}
