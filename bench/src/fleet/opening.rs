//! Who is there, and may it ask: before a run both sides say their version and prove that they know the secret.
//!
//! Guarantees: nothing is done for whoever has not proved it; the coordinator, which is the one that asks, proves first, so that
//! a stranger who tries workers learns nothing that a secret can be guessed from.

use super::FleetError;
use super::link::Link;
use super::secret::{Challenge, Secret, Side};
use super::words::{MOST_HELLO, Opening, PROTOCOL};
use std::time::Duration;

/// For each word of an opening.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The coordinator's side.
pub fn ask(link: &mut Link, secret: &Secret) -> Result<(), FleetError> {
    let ours = challenge()?;
    link.send(&hello(ours))?;
    let theirs = their_hello(link.wait(MOST_HELLO, PATIENCE)?)?;
    link.send(&Opening::Proof(secret.prove(Side::Coordinator, &ours, &theirs)))?;
    match link.wait(MOST_HELLO, PATIENCE)? {
        Opening::Proof(proof) if secret.is_proof(&proof, Side::Worker, &ours, &theirs) => Ok(()),
        Opening::Proof(_) => Err(FleetError::Secret),
        Opening::Refused(why) => Err(FleetError::Refused(plain(&why, MOST_HELLO))),
        _ => Err(FleetError::Unexpected),
    }
}

/// The worker's side: says its reason to whom it refuses.
pub fn answer(link: &mut Link, secret: &Secret) -> Result<(), FleetError> {
    let ours = challenge()?;
    let theirs = match their_hello(link.wait(MOST_HELLO, PATIENCE)?) {
        Ok(theirs) => theirs,
        Err(error) => return refuse(link, error),
    };
    link.send(&hello(ours))?;
    match link.wait(MOST_HELLO, PATIENCE)? {
        Opening::Proof(proof) if secret.is_proof(&proof, Side::Coordinator, &theirs, &ours) => {}
        Opening::Proof(_) => return refuse(link, FleetError::Secret),
        _ => return Err(FleetError::Unexpected),
    }
    link.send(&Opening::Proof(secret.prove(Side::Worker, &theirs, &ours)))
}

fn refuse(link: &mut Link, error: FleetError) -> Result<(), FleetError> {
    let why = match &error {
        FleetError::Version { theirs, ours } => format!("it is flood {ours}, and this is flood {theirs}"),
        FleetError::Secret => "it has another secret: give both the same --secret-file".to_owned(),
        other => other.to_string(),
    };
    link.send(&Opening::Refused(why))?;
    Err(error)
}

fn challenge() -> Result<Challenge, FleetError> {
    let mut challenge = Challenge::default();
    getrandom::fill(&mut challenge).map_err(|error| FleetError::Io(std::io::Error::other(error.to_string())))?;
    Ok(challenge)
}

fn hello(challenge: Challenge) -> Opening {
    Opening::Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned(), challenge }
}

fn their_hello(word: Opening) -> Result<Challenge, FleetError> {
    let say = |version: &str, protocol: u32| format!("{version} (protocol {protocol})");
    match word {
        Opening::Hello { protocol: PROTOCOL, version, challenge } if version == env!("CARGO_PKG_VERSION") => {
            Ok(challenge)
        }
        Opening::Hello { protocol, version, .. } => {
            let (theirs, ours) = (say(&plain(&version, 32), protocol), say(env!("CARGO_PKG_VERSION"), PROTOCOL));
            Err(FleetError::Version { theirs, ours })
        }
        Opening::Refused(why) => Err(FleetError::Refused(plain(&why, MOST_HELLO))),
        _ => Err(FleetError::Unexpected),
    }
}

/// What a stranger said, fit for a terminal.
fn plain(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// What each side says of an opening between these.
    fn open(
        ask: impl FnOnce(TcpStream) -> Result<(), FleetError>,
        answer: impl FnOnce(Link) -> Result<(), FleetError> + Send,
    ) -> (Result<(), FleetError>, Result<(), FleetError>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || answer(Link::new(listener.accept().unwrap().0).unwrap()));
            let asked = ask(TcpStream::connect(address).unwrap());
            (asked, thread.join().unwrap())
        })
    }

    fn secret(text: &str) -> Secret {
        let path = std::env::temp_dir().join(format!("flood-opening-{}-{text}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let secret = Secret::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        secret
    }

    #[test]
    fn who_knows_the_secret_is_let_in_and_who_does_not_is_told() {
        let (ours, other) = (secret("0123456789abcdef"), secret("fedcba9876543210"));
        let with = |theirs: &Secret, ours: &Secret| {
            open(|stream| ask(&mut Link::new(stream)?, theirs), |mut link| answer(&mut link, ours))
        };
        assert!(matches!(with(&ours, &ours), (Ok(()), Ok(()))));
        assert!(matches!(with(&Secret::default(), &Secret::default()), (Ok(()), Ok(()))));
        for (theirs, ours) in [(&other, &ours), (&Secret::default(), &ours), (&ours, &Secret::default())] {
            let (asked, answered) = with(theirs, ours);
            assert!(asked.unwrap_err().to_string().contains("another secret"));
            assert!(matches!(answered, Err(FleetError::Secret)));
        }
    }

    #[test]
    fn another_version_is_refused_by_its_name() {
        let other = || Opening::Hello { protocol: 9, version: "7.1.0".to_owned(), challenge: [0; 32] };
        let (asked, answered) = open(
            |stream| {
                let mut link = Link::new(stream)?;
                link.send(&other())?;
                their_hello(link.wait(MOST_HELLO, PATIENCE)?).map(|_| ())
            },
            |mut link| answer(&mut link, &Secret::default()),
        );
        assert!(answered.unwrap_err().to_string().contains("it is flood 7.1.0 (protocol 9), and this is flood 0."));
        assert!(asked.unwrap_err().to_string().contains("and this is flood 7.1.0 (protocol 9)"));
        let (asked, _) =
            open(|stream| ask(&mut Link::new(stream)?, &Secret::default()), |mut link| link.send(&other()));
        assert!(matches!(asked, Err(FleetError::Version { theirs, .. }) if theirs == "7.1.0 (protocol 9)"));
    }

    #[test]
    fn whoever_proves_with_what_it_was_told_is_not_let_in() {
        let ours = secret("0123456789abcdef");
        // A worker without the secret gives the coordinator's own proof back.
        let (asked, _) = open(
            |stream| ask(&mut Link::new(stream)?, &ours),
            |mut link| {
                let theirs = their_hello(link.wait(MOST_HELLO, PATIENCE)?)?;
                link.send(&hello(theirs))?;
                let proof: Opening = link.wait(MOST_HELLO, PATIENCE)?;
                link.send(&proof)
            },
        );
        assert!(matches!(asked, Err(FleetError::Secret)));
    }

    #[test]
    fn strangers_get_nothing() {
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x02{}", b"\0\0\x10\0", b"\0\0\0\x09\"nothing\"", b"\0\0"]
        {
            let (_, answered) =
                open(|mut stream| Ok(stream.write_all(bytes)?), |mut link| answer(&mut link, &Secret::default()));
            assert!(answered.is_err(), "{bytes:?}");
        }
        // A proof before its hello, and a part without a proof.
        for first in [Opening::Proof([0; 32]), Opening::Ready(String::new())] {
            let (_, answered) =
                open(|stream| Link::new(stream)?.send(&first), |mut link| answer(&mut link, &Secret::default()));
            assert!(answered.is_err());
        }
    }
}
