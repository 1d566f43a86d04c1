//! Looking at something again and again while a load runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How soon the end is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs `load` and meanwhile calls `look` on a thread of its own: at once, then so often, and once more when the load has
/// ended.
pub fn meanwhile<T>(every: Duration, mut look: impl FnMut() + Send, load: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look();
                let next = Instant::now() + every;
                while Instant::now() < next && !over.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK_EVERY);
                }
            }
            look();
        });
        let result = load();
        over.store(true, Ordering::Relaxed);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_taken_at_once_and_at_the_end() {
        let mut looks = 0;
        let result = meanwhile(
            Duration::from_secs(600),
            || looks += 1,
            || {
                std::thread::sleep(Duration::from_millis(50));
                7
            },
        );
        assert_eq!((looks, result), (2, 7));
    }
}
