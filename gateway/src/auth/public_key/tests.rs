use super::*;
use crate::auth::testing::{self, jwk};
use proptest::prelude::*;
use serde_json::{Value, json};

#[track_caller]
fn refused_pem(alg: Alg, pem: &[u8], why: &str) {
    assert_eq!(from_pem(alg, pem).err(), Some(why));
}

fn read(value: Value) -> Result<Alg, &'static str> {
    from_jwk(&serde_json::from_value(value).unwrap(), &Alg::PUBLIC).map(|(alg, _)| alg)
}

/// A JWK with one member changed.
fn changed(name: &str, member: &str, value: Value) -> Value {
    let mut key = jwk(name, "k");
    key[member] = value;
    key
}

#[test]
fn a_pem_file_is_a_key_of_its_own_algorithm_only() {
    for alg in Alg::PUBLIC {
        for (of, pem) in Alg::PUBLIC.map(|of| (of, testing::public_pem(of))) {
            assert_eq!(from_pem(alg, pem).is_ok(), of == alg, "{alg:?} from {of:?}");
        }
        refused_pem(alg, testing::private_pem(alg), PRIVATE);
        assert!(from_pem(alg, testing::CERTIFICATE).is_err());
        assert!(from_pem(alg, b"hello").is_err());
        assert!(from_pem(alg, &[0xff; 64]).is_err());
    }
    assert!(from_pem(Alg::Rs256, testing::RSA_PKCS1).is_ok());
    refused_pem(Alg::Es256, testing::EC_P384, NOT_P256);
}

#[test]
fn short_rsa_keys_are_refused_with_the_reason() {
    refused_pem(Alg::Rs256, testing::RSA_1024, "the RSA key has fewer than 2048 bits");
    assert_eq!(read(jwk("rsa-1024", "k")), Err("the RSA key has fewer than 2048 bits"));
    let modulus = |bytes: usize, first: u8| {
        let mut modulus = vec![0xff; bytes];
        modulus[0] = first;
        modulus
    };
    assert_eq!(check_rsa(&modulus(256, 0x80), &[3]), Ok(()));
    assert_eq!(check_rsa(&modulus(256, 0x7f), &[3]), Err(TOO_SHORT));
    assert_eq!(check_rsa(&[vec![0; 100], modulus(255, 0xff)].concat(), &[3]), Err(TOO_SHORT), "zeros are no bits");
    assert_eq!(check_rsa(&modulus(1_024, 0xff), &[3]), Ok(()));
    assert_eq!(check_rsa(&modulus(1_025, 0x01), &[3]), Err(TOO_LONG));
    for exponent in [&[][..], &[0], &[1], &[2], &[0, 1], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(check_rsa(&modulus(256, 0x80), exponent), Err(EXPONENT), "{exponent:?}");
    }
}

#[test]
fn a_jwk_is_a_key_of_the_algorithm_that_its_type_has() {
    for (name, alg) in [("rsa", Alg::Rs256), ("ec", Alg::Es256), ("ed", Alg::EdDsa)] {
        assert_eq!(read(jwk(name, "k")), Ok(alg));
        assert_eq!(read(changed(name, "alg", json!(alg.name()))), Ok(alg));
        assert_eq!(read(changed(name, "use", json!("sig"))), Ok(alg));
        assert_eq!(read(changed(name, "key_ops", json!(["verify"]))), Ok(alg));
        assert!(from_jwk(&serde_json::from_value(jwk(name, "k")).unwrap(), &[]).is_err());
    }
    assert_eq!(read(changed("ed", "alg", json!("Ed25519"))), Ok(Alg::EdDsa));
}

#[test]
fn what_a_jwk_must_not_be() {
    for (key, why) in [
        (json!({"kty": "oct", "k": "c2VjcmV0"}), "it is a symmetric key: whoever reads the set could sign with it"),
        (changed("rsa", "d", json!("AQAB")), PRIVATE),
        (changed("ec", "d", json!("AQAB")), PRIVATE),
        (changed("ed", "d", json!("")), PRIVATE),
        (changed("rsa", "use", json!("enc")), "it is not for signatures"),
        (changed("rsa", "key_ops", json!(["encrypt"])), "it is not for signatures"),
        (changed("rsa", "alg", json!("HS256")), "its algorithm is not supported"),
        (changed("rsa", "alg", json!("PS256")), "its algorithm is not supported"),
        (changed("rsa", "alg", json!("ES256")), "its algorithm is not supported"),
        (changed("rsa", "e", json!("AQ")), EXPONENT),
        (changed("rsa", "n", json!("?")), "a member of it is not base64url"),
        (changed("rsa", "n", json!(null)), "a member of it is missing"),
        (changed("ec", "x", json!("AQAB")), "a coordinate has not 32 bytes"),
        (changed("ed", "x", json!("AQAB")), "a coordinate has not 32 bytes"),
        (jwk("ec-p384", "k"), "its type or curve is not supported"),
        (changed("ec", "crv", json!("secp256k1")), "its type or curve is not supported"),
        (changed("ed", "crv", json!("X25519")), "its type or curve is not supported"),
    ] {
        assert_eq!(read(key.clone()), Err(why), "{key}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = rsa_numbers(&bytes);
        let sequence = [&[0x30, bytes.len() as u8][..], &bytes].concat();
        let _ = rsa_numbers(&sequence);
        let _ = check_rsa(&bytes, &bytes);
    }
}
