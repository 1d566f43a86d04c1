//! The randomness of a world: SplitMix64, one seed, the same numbers for ever.

#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x05ee_d0f4_c4a7)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in from..=to.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll() % (to - from + 1)
    }

    /// Uniform in 0..n.
    pub fn pick(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// True in `percent` of 100 rolls.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}
