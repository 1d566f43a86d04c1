//! Public keys from PEM files (RFC 7468) and JSON Web Keys (RFC 7517): what is taken, and why the rest is not. Pure.
//!
//! Guarantees: a key that leaves this module is a public one of its algorithm and not a weak one. A private key is refused
//! even where its public half would do: it has no business on this machine.

use super::keys::Alg;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

/// Bits of an RSA modulus: fewer can be broken (RFC 7518 section 3.3), more cost the gateway for nothing.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// Bytes of an RSA exponent at most; nearly all are 65,537.
const EXPONENT_BYTES: usize = 4;

const TOO_SHORT: &str = "the RSA key has fewer than 2048 bits";
const TOO_LONG: &str = "the RSA key has more than 8192 bits";
const EXPONENT: &str = "the exponent of the RSA key is not usable";
const PRIVATE: &str = "it holds a private key: only the public one belongs here";
const NOT_RSA: &str = "not a PEM file of an RSA public key";
const NOT_P256: &str = "not a PEM file of a P-256 public key";
const NOT_ED: &str = "not a PEM file of an Ed25519 public key";

/// A public key for `alg` from a PEM file.
pub fn from_pem(alg: Alg, pem: &[u8]) -> Result<DecodingKey, &'static str> {
    let not = match alg {
        Alg::Rs256 => NOT_RSA,
        Alg::Es256 => NOT_P256,
        Alg::EdDsa => NOT_ED,
        Alg::Hs256 => return Err("HS256 has no public key"),
    };
    let text = std::str::from_utf8(pem).map_err(|_| not)?;
    if text.contains("PRIVATE KEY-----") {
        return Err(PRIVATE);
    }
    // A certificate is refused too: the first bit string in it need not be its key.
    if !text.contains("-----BEGIN PUBLIC KEY-----") && !text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        return Err(not);
    }
    let key = match alg {
        Alg::Rs256 => DecodingKey::from_rsa_pem(pem),
        Alg::Es256 => DecodingKey::from_ec_pem(pem),
        Alg::EdDsa | Alg::Hs256 => DecodingKey::from_ed_pem(pem),
    };
    let key = key.map_err(|_| not)?;
    let bytes = key.try_get_as_bytes().map_err(|_| not)?;
    match alg {
        Alg::Rs256 => {
            let (modulus, exponent) = rsa_numbers(bytes).ok_or(not)?;
            check_rsa(modulus, exponent)?;
        }
        // An uncompressed point: a tag and two coordinates (SEC 1 section 2.3.3). Other curves have other lengths.
        Alg::Es256 if bytes.len() != 65 || bytes.first() != Some(&4) => return Err(not),
        Alg::EdDsa if bytes.len() != 32 => return Err(not),
        Alg::Es256 | Alg::EdDsa | Alg::Hs256 => {}
    }
    Ok(key)
}

/// The members of a JWK that matter here (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2).
#[derive(Deserialize)]
pub struct Jwk {
    kty: String,
    pub kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Only a private key has it: RSA, EC and Ed25519 alike.
    d: Option<serde_json::Value>,
}

/// A public key and its algorithm from a JWK, if it is one of `allowed`.
pub fn from_jwk(jwk: &Jwk, allowed: &[Alg]) -> Result<(Alg, DecodingKey), &'static str> {
    if jwk.kty == "oct" {
        return Err("it is a symmetric key: whoever reads the set could sign with it");
    }
    if jwk.d.is_some() {
        return Err(PRIVATE);
    }
    let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") || jwk.key_ops.as_ref().is_some_and(|o| !verifies(o)) {
        return Err("it is not for signatures");
    }
    let alg = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => Alg::Rs256,
        ("EC", Some("P-256")) => Alg::Es256,
        ("OKP", Some("Ed25519")) => Alg::EdDsa,
        _ => return Err("its type or curve is not supported"),
    };
    // RFC 9864 gave EdDSA with this curve a name of its own.
    let agrees = |named: &str| named == alg.name() || alg == Alg::EdDsa && named == "Ed25519";
    if !jwk.alg.as_deref().is_none_or(agrees) {
        return Err("its algorithm is not supported");
    }
    if !allowed.contains(&alg) {
        return Err("its algorithm is not allowed for this source");
    }
    let key = match alg {
        Alg::Rs256 => {
            let (n, e) = (bytes(&jwk.n)?, bytes(&jwk.e)?);
            check_rsa(&n, &e)?;
            DecodingKey::from_rsa_raw_components(&n, &e)
        }
        Alg::Es256 => {
            let (x, y) = (coordinate(&jwk.x)?, coordinate(&jwk.y)?);
            DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat())
        }
        Alg::EdDsa | Alg::Hs256 => DecodingKey::from_ed_der(&coordinate(&jwk.x)?),
    };
    Ok((alg, key))
}

fn bytes(member: &Option<String>) -> Result<Vec<u8>, &'static str> {
    let text = member.as_deref().ok_or("a member of it is missing")?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member of it is not base64url")
}

/// Both curves have coordinates of 32 bytes.
fn coordinate(member: &Option<String>) -> Result<Vec<u8>, &'static str> {
    bytes(member).and_then(|bytes| if bytes.len() == 32 { Ok(bytes) } else { Err("a coordinate has not 32 bytes") })
}

fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), &'static str> {
    let bits = bits(modulus);
    if bits < *RSA_BITS.start() {
        return Err(TOO_SHORT);
    }
    if bits > *RSA_BITS.end() {
        return Err(TOO_LONG);
    }
    // An even exponent or 1 is no RSA: with 1 everybody could sign.
    let exponent_bits = self::bits(exponent);
    let odd = exponent.last().is_some_and(|last| last % 2 == 1);
    if !odd || !(2..=8 * EXPONENT_BYTES).contains(&exponent_bits) {
        return Err(EXPONENT);
    }
    Ok(())
}

/// The length of a big-endian number.
fn bits(number: &[u8]) -> usize {
    let significant = number.iter().skip_while(|byte| **byte == 0);
    let (mut length, mut first) = (0, 0_u8);
    for byte in significant {
        if length == 0 {
            first = *byte;
        }
        length += 8;
    }
    length - if length == 0 { 0 } else { first.leading_zeros() as usize }
}

/// Modulus and exponent of an RSAPublicKey in DER (RFC 8017 appendix A.1.1): a sequence of exactly two integers.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, []) = der_value(der, 0x30)? else { return None };
    let (modulus, rest) = der_value(sequence, 0x02)?;
    let (exponent, []) = der_value(rest, 0x02)? else { return None };
    Some((modulus, exponent))
}

/// The contents of the value with this tag at the front, and what follows it. Lengths of up to two bytes: 64 KiB.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests;
