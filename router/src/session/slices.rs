//! A body with a ciphertext for each device, as a client sends it: bounds and names. Whom it must be for, the room decides.

use crate::refusal;
use ringpost_persist::Body;
use ringpost_proto::id::{UserKey, check_device};
use ringpost_proto::limits::{SLICE_BYTES, SLICES, SLICES_BYTES};
use ringpost_proto::v1;

/// The body of these slices, in one order whatever order they came in, so that a retry has the same hash.
pub(super) fn body(own: &UserKey, mut slices: Vec<v1::Slice>) -> Result<Body, v1::Error> {
    if slices.len() > SLICES {
        return Err(refusal::too_many("slices", SLICES as u32));
    }
    for slice in &slices {
        own.sibling(&slice.user).map_err(|error| refusal::invalid("slices.user", error.to_string()))?;
        check_device(&slice.device).map_err(|error| refusal::invalid("slices.device", error.to_string()))?;
        if slice.bytes.is_empty() {
            return Err(refusal::invalid("slices.bytes", "must not be empty"));
        }
        if slice.bytes.len() > SLICE_BYTES {
            return Err(refusal::too_large("slices.bytes", SLICE_BYTES));
        }
    }
    if slices.iter().map(|slice| slice.bytes.len()).sum::<usize>() > SLICES_BYTES {
        return Err(refusal::too_large("slices", SLICES_BYTES));
    }
    slices.sort_by(|a, b| (&a.user, &a.device).cmp(&(&b.user, &b.device)));
    if slices.windows(2).any(|two| (&two[0].user, &two[0].device) == (&two[1].user, &two[1].device)) {
        return Err(refusal::invalid("slices", "names a device twice"));
    }
    Ok(Body::Slices(prost::Message::encode_to_vec(&v1::Slices { slices }).into()))
}
