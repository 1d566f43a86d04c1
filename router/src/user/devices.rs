//! The devices of a user: which are linked, which were unlinked, when each was last seen.
//!
//! Owns: the document of a user's devices, its rules and its bytes. Guarantees: at most [`DEVICES`] are linked; a token that was
//! issued before its device was unlinked counts no more, however long ago that was and whether the device is back or not;
//! `version` moves with what a sender must know, and with nothing else; what an older build wrote is read. Never does: read
//! the document, write it, decide who asks.
//!
//! Bytes, version 1, little endian: version u8, `version` u64, last seen u64, floor u64, the number of devices u8, each: flags
//! u8 (1: primary), registration id u32, floor u64, linked u64, seen u64, name with a length byte before it; the number of
//! unlinked devices u8, each: when u64, name. Then 1 u8 where the user was ever answered. Nothing may follow.

use bytes::Bytes;
use ringpost_proto::id::DeviceId;
use ringpost_proto::limits::DEVICES;

const VERSION: u8 = 1;
const PRIMARY: u8 = 1;
/// Unlinked devices that are remembered by name; older ones by the floor that they leave.
const UNLINKED: usize = 32;

/// Times are Unix milliseconds, of the gateway's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceList {
    version: u64,
    last_seen_ms: u64,
    /// A device that is not linked needs a token that was issued after this.
    floor_ms: u64,
    /// In the order in which they were linked.
    devices: Vec<Device>,
    /// In the order in which they were unlinked; none of them is linked.
    unlinked: Vec<Unlinked>,
    /// Somebody to whom the user had written wrote back.
    answered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub device: DeviceId,
    pub primary: bool,
    /// Of its keys; 0 until it has published some.
    pub registration_id: u32,
    /// When a device of this name was unlinked last; 0: never.
    pub floor_ms: u64,
    pub linked_ms: u64,
    pub seen_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Unlinked {
    device: DeviceId,
    at_ms: u64,
}

/// What a device is that comes with a good token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is linked; nothing changes.
    Known,
    /// It is linked, and becomes the primary one.
    Promoted,
    /// It is to be linked, the first one ever of this user: it gets everything.
    First,
    /// It is to be linked: it gets what no device of the user has received yet.
    Further,
    /// The token is older than the device's last unlinking.
    Revoked,
    /// There are [`DEVICES`] others.
    Full,
}

/// Why stored bytes are no list of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of devices that this version can read")]
pub struct DeviceListError;

impl DeviceList {
    /// Grows with each change of what a sender must know: which devices there are, and their registration ids.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// In the order in which they were linked.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    pub fn find(&self, device: DeviceId) -> Option<&Device> {
        self.devices.iter().find(|it| it.device == device)
    }

    /// When the user was last seen on any device, as far as that was written down; 0: never.
    pub fn last_seen_ms(&self) -> u64 {
        self.last_seen_ms
    }

    /// What becomes of a device with a token that was issued at `issued_ms` and says `primary`.
    pub fn admission(&self, device: DeviceId, issued_ms: u64, primary: Option<bool>) -> Admission {
        let floor_ms = self.floor_of(device);
        if floor_ms > 0 && issued_ms <= floor_ms {
            return Admission::Revoked;
        }
        match self.find(device) {
            Some(known) if primary == Some(true) && !known.primary => Admission::Promoted,
            Some(_) => Admission::Known,
            None if self.version == 0 => Admission::First,
            None if self.devices.len() >= DEVICES => Admission::Full,
            None => Admission::Further,
        }
    }

    /// A token of this device counts if it was issued after this; 0: every one does.
    pub fn floor_of(&self, device: DeviceId) -> u64 {
        if let Some(known) = self.find(device) {
            return known.floor_ms;
        }
        self.unlinked.iter().find(|it| it.device == device).map_or(self.floor_ms, |it| it.at_ms)
    }

    /// Devices that were unlinked, as far as they are known by name, and when; in that order.
    pub fn unlinked(&self) -> impl Iterator<Item = (DeviceId, u64)> + '_ {
        self.unlinked.iter().map(|it| (it.device, it.at_ms))
    }

    /// Whether the device was linked once, and lately enough to be known by name.
    pub fn was_unlinked(&self, device: DeviceId) -> bool {
        self.unlinked.iter().any(|it| it.device == device)
    }

    /// Links a device that was admitted. There is one primary device at most: the one whose token says so, else the first.
    pub fn link(&mut self, device: DeviceId, primary: Option<bool>, now_ms: u64) {
        let primary = primary.unwrap_or(self.devices.is_empty());
        if primary {
            self.devices.iter_mut().for_each(|other| other.primary = other.device == device);
        }
        if self.find(device).is_none() {
            let floor_ms = self.floor_of(device);
            self.unlinked.retain(|it| it.device != device);
            let (registration_id, linked_ms, seen_ms) = (0, now_ms, now_ms);
            self.devices.push(Device { device, primary, registration_id, floor_ms, linked_ms, seen_ms });
        }
        self.version += 1;
        self.seen(device, now_ms);
    }

    /// The primary device may unlink every one, another only itself.
    pub fn may_unlink(&self, by: DeviceId, device: DeviceId) -> bool {
        by == device || self.find(by).is_some_and(|it| it.primary)
    }

    /// Unlinks a device; `false`: there is none. After the primary one the longest linked is primary.
    pub fn unlink(&mut self, device: DeviceId, now_ms: u64) -> bool {
        let Some(at) = self.devices.iter().position(|it| it.device == device) else { return false };
        let gone = self.devices.remove(at);
        if let Some(heir) = self.devices.first_mut().filter(|_| gone.primary) {
            heir.primary = true;
        }
        if self.unlinked.len() == UNLINKED {
            self.floor_ms = self.floor_ms.max(self.unlinked.remove(0).at_ms);
        }
        // However the clock was set back, tokens that did not count do not count now.
        let at_ms = now_ms.max(gone.floor_ms);
        self.unlinked.push(Unlinked { device, at_ms });
        self.version += 1;
        true
    }

    /// Unlinks the devices that were not seen for `after_ms` (0: none are) and are not among those `here`. Returns how many.
    pub fn unlink_dormant(&mut self, after_ms: u64, here: &[DeviceId], now_ms: u64) -> usize {
        if after_ms == 0 {
            return 0;
        }
        let is_dormant = |it: &&Device| it.seen_ms.saturating_add(after_ms) <= now_ms && !here.contains(&it.device);
        let dormant: Vec<_> = self.devices.iter().filter(is_dormant).map(|it| it.device).collect();
        dormant.iter().filter(|device| self.unlink(**device, now_ms)).count()
    }

    /// What is left of a list once its user is erased: no device, no name, and that tokens of until now do not count. `None`:
    /// nothing is left to forget. Bytes that cannot be read are forgotten as well.
    pub fn forgotten(stored: &[u8], now_ms: u64) -> Option<Bytes> {
        let old = Self::decode(stored).unwrap_or_default();
        let unread = !stored.is_empty() && old == Self::default();
        if old.devices.is_empty() && old.unlinked.is_empty() && !unread {
            return None;
        }
        let floors = old.devices.iter().map(|it| it.floor_ms).chain(old.unlinked.iter().map(|it| it.at_ms));
        let floor_ms = floors.fold(old.floor_ms.max(now_ms), u64::max);
        Some(Self { version: old.version + 1, floor_ms, ..Self::default() }.encode())
    }

    /// A linked device is here now; never moves back.
    pub fn seen(&mut self, device: DeviceId, now_ms: u64) {
        if let Some(known) = self.devices.iter_mut().find(|it| it.device == device) {
            known.seen_ms = known.seen_ms.max(now_ms);
            self.last_seen_ms = self.last_seen_ms.max(known.seen_ms);
        }
    }

    /// Whether it was written down within `within_ms` that a linked device was seen.
    pub fn was_seen(&self, device: DeviceId, within_ms: u64, now_ms: u64) -> bool {
        self.find(device).is_none_or(|it| it.seen_ms.saturating_add(within_ms) > now_ms)
    }

    /// Whether somebody to whom the user had written ever wrote back.
    pub fn was_answered(&self) -> bool {
        self.answered
    }

    /// Somebody did; `false`: that is known.
    pub fn answer(&mut self) -> bool {
        !std::mem::replace(&mut self.answered, true)
    }

    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        for number in [self.version, self.last_seen_ms, self.floor_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.push(self.devices.len() as u8);
        for device in &self.devices {
            out.push(if device.primary { PRIMARY } else { 0 });
            out.extend_from_slice(&device.registration_id.to_le_bytes());
            for number in [device.floor_ms, device.linked_ms, device.seen_ms] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            write_name(device.device, &mut out);
        }
        out.push(self.unlinked.len() as u8);
        for unlinked in &self.unlinked {
            out.extend_from_slice(&unlinked.at_ms.to_le_bytes());
            write_name(unlinked.device, &mut out);
        }
        if self.answered {
            out.push(1);
        }
        out.into()
    }

    /// Reads what [`DeviceList::encode`] wrote; no bytes: nobody was ever linked.
    pub fn decode(stored: &[u8]) -> Result<Self, DeviceListError> {
        if stored.is_empty() {
            return Ok(Self::default());
        }
        let mut from = Reader(stored);
        if from.array()? != [VERSION] {
            return Err(DeviceListError);
        }
        let [version, last_seen_ms, floor_ms] = [from.number()?, from.number()?, from.number()?];
        let mut devices = Vec::new();
        let [count] = from.array()?;
        for _ in 0..count {
            let [flags] = from.array()?;
            let registration_id = u32::from_le_bytes(from.array()?);
            let [floor_ms, linked_ms, seen_ms] = [from.number()?, from.number()?, from.number()?];
            let (device, primary) = (from.name()?, flags & PRIMARY != 0);
            devices.push(Device { device, primary, registration_id, floor_ms, linked_ms, seen_ms });
        }
        let mut unlinked = Vec::new();
        let [count] = from.array()?;
        for _ in 0..count {
            let at_ms = from.number()?;
            unlinked.push(Unlinked { at_ms, device: from.name()? });
        }
        let answered = match from.0 {
            [] => false,
            [1] => true,
            _ => return Err(DeviceListError),
        };
        Ok(Self { version, last_seen_ms, floor_ms, devices, unlinked, answered })
    }
}

fn write_name(device: DeviceId, out: &mut Vec<u8>) {
    out.push(device.as_str().len() as u8);
    out.extend_from_slice(device.as_str().as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DeviceListError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DeviceListError)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, DeviceListError> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self) -> Result<DeviceId, DeviceListError> {
        let [len] = self.array()?;
        let (name, rest) = self.0.split_at_checked(usize::from(len)).ok_or(DeviceListError)?;
        self.0 = rest;
        std::str::from_utf8(name).ok().and_then(|name| DeviceId::new(name).ok()).ok_or(DeviceListError)
    }
}

#[cfg(test)]
mod tests;
