use std::time::{Duration, SystemTime, UNIX_EPOCH};

use semel_core::record::Timestamp;
use semel_store_memory::{ManualClock, MemoryStore, SystemClock};

use crate::common::claim;

#[test]
fn the_systems_clock_shows_the_time_and_never_goes_back() {
    let clock = SystemClock::new();
    let first = clock.now();
    let wall = Timestamp::from_millis(0).plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    assert!(wall.since(first) < Duration::from_mins(1) && first.since(wall) < Duration::from_mins(1));
    assert!(clock.now() >= first);
}

#[test]
fn a_manual_clock_stops_at_the_end_of_time() {
    let clock = ManualClock::at(Timestamp::from_millis(i64::MAX - 1));
    clock.advance(Duration::MAX);
    assert_eq!(clock.now().as_millis(), i64::MAX);
}

// A restarted process that counts from 1 again is superseded by the tokens its own predecessor handed out.
#[tokio::test]
async fn a_later_process_hands_out_higher_fences() {
    let clock = ManualClock::new();
    let earlier = MemoryStore::builder().clock(clock.clone()).build();
    let mut last = claim(&earlier, 0).await.fence;
    for n in 1..1000 {
        last = claim(&earlier, n).await.fence;
    }
    clock.advance(Duration::from_millis(1));
    let later = MemoryStore::builder().clock(clock).build();
    let first = claim(&later, 0).await.fence;
    assert!(first > last);
    assert!(first.get() < 1 << 53, "a reader who knows only doubles reads it right");
}
