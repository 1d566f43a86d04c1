//! Generates the frame types and their proto3 JSON mapping from the .proto files; needs no protoc.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let files = ["proto/ringpost/v1/messages.proto", "proto/ringpost/v1/frames.proto"];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let encoded = prost::Message::encode_to_vec(&descriptors);
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&encoded)?
        .ignore_unknown_fields()
        .out_dir(out)
        .build(&[".ringpost.v1"])?;
    Ok(())
}
