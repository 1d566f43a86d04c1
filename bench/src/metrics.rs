//! What the gateway says of itself: counters of its admin listener's /metrics.
//!
//! Owns: one HTTP/1.1 request and the sum of a metric's samples. Never does: more than the text exposition format needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest page that is read, in bytes.
const MOST_BYTES: u64 = 16 << 20;

/// One page of metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    pub fn read(admin: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.take(MOST_BYTES).read_to_string(&mut text)?;
        Ok(Self(text))
    }

    /// The sum of all samples of `name`, whatever their labels. 0 if there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.sum_where(name, "")
    }

    /// The sum of the samples of `name` whose labels hold this text, such as `direction="out"`.
    pub fn sum_where(&self, name: &str, label: &str) -> f64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, rest) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once('}')?,
                None => ("", rest.strip_prefix(' ')?),
            };
            labels.contains(label).then(|| rest.split_ascii_whitespace().next()?.parse::<f64>().ok())?
        };
        self.0.lines().filter_map(value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_are_summed_and_others_left_out() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE a_total counter\na_total{x=\"} 9\"} 2\na_total{x=\"b\"} 3.5\na_total_more 7\na 1\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("a_total"), 5.5);
        assert_eq!(metrics.sum_where("a_total", "x=\"b\""), 3.5);
        assert_eq!(metrics.sum("a"), 1.0);
        assert_eq!(metrics.sum("b"), 0.0);
    }
}
