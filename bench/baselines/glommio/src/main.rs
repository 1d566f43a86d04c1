//! An echo server on glommio: a task and one process descriptor per connection, one executor thread.
//!
//! `glommio-echo PORT`. Prints one line when it listens.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};

fn main() {
    let port: u16 = std::env::args().nth(1).and_then(|text| text.parse().ok()).expect("usage: glommio-echo PORT");
    let executor = LocalExecutorBuilder::new(Placement::Unbound).spawn(move || async move {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        println!("ready listen=127.0.0.1:{port}");
        loop {
            match listener.accept().await {
                Ok(stream) => glommio::spawn_local(echo(stream)).detach(),
                Err(error) => {
                    eprintln!("accept: {error}");
                    continue;
                }
            };
        }
    });
    executor.expect("an executor").join().expect("the executor's end");
}

async fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
