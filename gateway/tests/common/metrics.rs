//! One scrape of /metrics.

use super::client::HttpClient;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};

/// Series (name with labels) and their values.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn scrape(admin: SocketAddr) -> Self {
        let mut http = HttpClient::new(TcpStream::connect(admin).expect("the admin port accepts"));
        http.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = http.response();
        assert_eq!(response.status, 200);
        let text = String::from_utf8(response.body).expect("text");
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(series.collect())
    }

    /// The sum over all series of this metric that hold `label`.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        self.of(name).filter(|(series, _)| series.contains(label)).map(|(_, value)| value).sum()
    }

    /// Open connections, of all states.
    pub fn open(&self) -> f64 {
        self.sum("ringpost_connections", "")
    }

    /// The names of all series.
    pub fn series(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Panics unless the books balance: what was accepted is open or was closed for one reason, and no gauge is negative.
    pub fn check_conservation(&self) {
        let (accepted, closed) = (self.sum("ringpost_accepted_total", ""), self.sum("ringpost_closed_total", ""));
        let moved = |direction| self.sum("ringpost_moved_total", direction);
        let moving = moved("direction=\"out\"") - moved("direction=\"in\"");
        assert_eq!(accepted, self.open() + closed + moving, "accepted = open + closed + moving");
        assert!(self.0.iter().all(|(_, value)| *value >= 0.0), "a negative value");
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(series, value)| {
            let rest = series.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((series.as_str(), *value))
        })
    }
}
