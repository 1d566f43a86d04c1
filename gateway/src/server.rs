//! Starts and stops a gateway: store, shards, control plane.
