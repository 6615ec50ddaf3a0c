//! Asynchronous tests that come to an end.

use std::future::Future;
use std::time::Duration;

/// Runs a test in a runtime with two workers, for two minutes at most.
///
/// # Panics
///
/// As the test does, or when its time is up.
pub fn bounded<Fut: Future<Output = ()>>(body: impl FnOnce() -> Fut) {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let in_time = built.map(|runtime| {
        runtime.block_on(async { tokio::time::timeout(Duration::from_mins(2), body()).await })
    });
    assert!(matches!(in_time, Ok(Ok(()))), "the test came to no end: {in_time:?}");
}

/// Runs a future to its end on a thread of its own, from wherever, also from within a runtime.
///
/// # Panics
///
/// As the future does.
pub fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(future))
        };
        match scope.spawn(work).join() {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => panic!("no runtime: {error}"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Starts many tasks at once and gathers what they answer, in their order.
///
/// # Panics
///
/// As the first of them that does.
pub async fn together<T: Send + 'static, Fut: Future<Output = T> + Send + 'static>(
    tasks: impl IntoIterator<Item = Fut>,
) -> Vec<T> {
    let running: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(running.len());
    for task in running {
        match task.await {
            Ok(answer) => answers.push(answer),
            Err(error) => panic!("{error}"),
        }
    }
    answers
}
