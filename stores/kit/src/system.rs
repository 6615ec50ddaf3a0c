//! What stores ask of the system that they run on.

use semel_core::store::{StoreError, StoreErrorKind};

/// Random bytes, for the store of this name: for secrets, and for names that nobody else has.
///
/// # Errors
///
/// `Unavailable`: the system gives none.
pub fn random<const N: usize>(store: &'static str) -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let what = "the system gives no random numbers";
        StoreError::new(store, StoreErrorKind::Unavailable, what).with_source(error)
    })?;
    Ok(bytes)
}

/// Runs a future to its end on a thread of its own, for the store of this name, since nothing may block in the caller's,
/// should it be in a runtime.
///
/// # Errors
///
/// Those of the future; `Unavailable` where there is no thread for it, or it panicked.
pub fn blocking<T: Send, F: Future<Output = Result<T, StoreError>>>(
    store: &'static str,
    work: impl FnOnce() -> F + Send,
) -> Result<T, StoreError> {
    let refused = || StoreError::new(store, StoreErrorKind::Unavailable, "no thread to open the store");
    // The runtime ends on that thread as well: a runtime may not be dropped inside another one.
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.map_err(|error| refused().with_source(error))?.block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|_| Err(refused())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_others_each_time() {
        let bytes = |_| random::<16>("demo").unwrap();
        assert_ne!(bytes(1), bytes(2));
    }

    // Such as an application that opens its store where it builds its state.
    #[tokio::test]
    async fn it_blocks_inside_a_runtime_as_well_and_survives_a_panic() {
        assert_eq!(blocking("demo", async || Ok(7)).unwrap(), 7);
        let error = blocking::<(), _>("demo", async || panic!("on its own thread")).unwrap_err();
        assert_eq!(error.to_string(), "demo store: no thread to open the store");
    }
}
