//! Arena offsets: storages that live at different times share memory.

use super::liveness::Live;

/// One storage that wants memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) live: Live,
    pub(super) bytes: u64,
}

/// Offsets for all requests and the arena's size. Largest first, each at the lowest offset that is free for its life:
/// deterministic, and close to the peak of what lives at once.
pub(super) fn assign(requests: &[Request], alignment: u64) -> (Vec<u64>, u64) {
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|&i| requests.get(i).map(|r| (std::cmp::Reverse(r.bytes), i)));
    let mut offsets = vec![0u64; requests.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(requests.len());
    let mut size = 0;
    for i in order {
        let Some(request) = requests.get(i) else {
            continue;
        };
        let mut taken: Vec<(u64, u64)> = placed
            .iter()
            .filter_map(|&p| Some((requests.get(p)?, *offsets.get(p)?)))
            .filter(|(r, _)| r.live.first <= request.live.last && request.live.first <= r.live.last)
            .map(|(r, start)| (start, start + r.bytes))
            .collect();
        taken.sort_unstable();
        let mut offset = 0u64;
        for (start, end) in taken {
            if offset.saturating_add(request.bytes) <= start {
                break;
            }
            offset = offset.max(end.next_multiple_of(alignment));
        }
        if let Some(o) = offsets.get_mut(i) {
            *o = offset;
        }
        size = size.max(offset.saturating_add(request.bytes));
        placed.push(i);
    }
    (offsets, size.next_multiple_of(alignment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(first: usize, last: usize, bytes: u64) -> Request {
        Request {
            live: Live { first, last },
            bytes,
        }
    }

    #[test]
    fn memory_is_shared_between_lives_that_do_not_meet() {
        let (offsets, size) = assign(
            &[request(0, 1, 100), request(2, 3, 100), request(1, 2, 50)],
            64,
        );
        assert_eq!(offsets, [0, 0, 128]);
        assert_eq!(size, 192);
    }

    #[test]
    fn neighbours_in_time_never_overlap() {
        // A chain: each value is read by the step that makes the next one.
        let requests: Vec<Request> = (0..40)
            .map(|i| request(i, i + 1, 64 + 32 * (i as u64 % 5)))
            .collect();
        let (offsets, size) = assign(&requests, 32);
        for (i, a) in requests.iter().enumerate() {
            for (j, b) in requests.iter().enumerate().skip(i + 1) {
                let meet = a.live.first <= b.live.last && b.live.first <= a.live.last;
                let apart =
                    offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                assert!(!meet || apart, "{i} and {j} overlap");
            }
        }
        assert!(size <= 2 * 192 + 64, "{size}");
    }
}
