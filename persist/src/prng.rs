//! Seeded pseudo-random numbers for faults and crash tests: xoshiro256++ (Blackman and Vigna), seeded by splitmix64. Not
//! for secrets.

/// The same seed gives the same numbers for ever.
#[derive(Clone, Debug)]
pub struct Prng([u64; 4]);

impl Prng {
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }))
    }

    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = self.0;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.0 = [a ^ d2, b ^ c2, c2 ^ b << 17, d2.rotate_left(45)];
        result
    }

    /// 0 to `bound` - 1; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// True with the probability `per_10_000` / 10,000.
    pub fn chance(&mut self, per_10_000: u32) -> bool {
        self.below(10_000) < u64::from(per_10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_published_generator() {
        // Reference: state 1, 2, 3, 4.
        let mut prng = Prng([1, 2, 3, 4]);
        assert_eq!(
            [prng.next_u64(), prng.next_u64(), prng.next_u64()],
            [41_943_041, 58_720_359, 3_588_806_011_781_223]
        );
    }

    #[test]
    fn chances_are_about_what_they_say() {
        let mut prng = Prng::new(7);
        let hits = (0..100_000).filter(|_| prng.chance(500)).count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        assert!(!(0..10_000).any(|_| prng.chance(0)));
        assert!((0..10_000).all(|_| prng.chance(10_000)));
    }
}
