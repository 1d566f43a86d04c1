//! A server of rooms, honest or not: what comes from one goes to the others of the path, a thread per connection.

use ringpost_gateway::transport::http::{HeadReader, upgrade};
use ringpost_gateway::transport::websocket::{Decoder, Event, Opcode, Role, encode};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to every tenth message at its first receiver, or to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Lost,
    Twice,
    /// Its last byte is cut off.
    Changed,
    /// After the next one.
    Swapped,
    /// Its receiver's connection is closed instead.
    Closed,
    /// One after the other, each takes 50 ms.
    Late,
}

#[derive(Default)]
struct Room {
    members: Vec<(u32, TcpStream)>,
    messages: u32,
    held: Option<Vec<u8>>,
}

/// Starts one, for as long as the test runs.
pub fn start(fault: Fault) -> SocketAddr {
    let rooms = Arc::new(Mutex::new(HashMap::<String, Room>::new()));
    let count = Arc::new(Mutex::new(0));
    super::plain_server(move |stream| {
        let number = {
            let mut count = count.lock().unwrap();
            *count += 1;
            *count
        };
        let _ = serve(&rooms, fault, number, stream);
    })
}

fn serve(
    rooms: &Mutex<HashMap<String, Room>>,
    fault: Fault,
    number: u32,
    mut stream: TcpStream,
) -> std::io::Result<()> {
    let Some(path) = accept(&mut stream)? else { return Ok(()) };
    let own = stream.try_clone()?;
    rooms.lock().unwrap().entry(path.clone()).or_default().members.push((number, own));
    let mut decoder = Decoder::new(Role::Server, 1 << 20);
    let mut buffer = [0; 16 << 10];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut chunk = &mut buffer[..count];
        while let Ok(Some(Event::Message { payload, .. })) = decoder.next(&mut chunk) {
            if path == "/echo" {
                stream.write_all(&frame(&payload))?;
                continue;
            }
            rooms.lock().unwrap().get_mut(&path).unwrap().forward(fault, number, &payload);
        }
    }
}

/// Upgrades; the path.
fn accept(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let (mut reader, mut buffer) = (HeadReader::default(), [0; 8 << 10]);
    loop {
        let count = stream.read(&mut buffer)?;
        let Ok(head) = reader.read(&mut &buffer[..count]) else { return Ok(None) };
        let Some(head) = head.filter(|_| count > 0) else { continue };
        let Ok(upgrade) = upgrade::decide(&head, &[]) else { return Ok(None) };
        let mut out = Vec::new();
        upgrade.write_response(&mut out);
        stream.write_all(&out)?;
        return Ok(Some(head.target().to_owned()));
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode::message(&mut out, Opcode::Binary, payload);
    out
}

impl Room {
    fn forward(&mut self, fault: Fault, from: u32, payload: &[u8]) {
        self.messages += 1;
        let is_tenth = self.messages.is_multiple_of(10);
        if fault == Fault::Late {
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut others = self.members.iter_mut().filter(|(number, _)| *number != from).map(|(_, stream)| stream);
        if let Some(first) = others.next() {
            let mut say = |payload: &[u8]| drop(first.write_all(&frame(payload)));
            match fault {
                Fault::Lost if is_tenth => {}
                Fault::Twice if is_tenth => (0..2).for_each(|_| say(payload)),
                Fault::Changed if is_tenth => say(&payload[..payload.len() - 1]),
                Fault::Swapped if is_tenth => self.held = Some(payload.to_vec()),
                Fault::Closed if is_tenth => drop(first.shutdown(std::net::Shutdown::Both)),
                _ => {
                    say(payload);
                    self.held.take().iter().for_each(|held| say(held));
                }
            }
        }
        others.for_each(|other| drop(other.write_all(&frame(payload))));
    }
}
