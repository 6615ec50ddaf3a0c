//! `semel demo`: an order service, Semel before it, and what to try.

mod client;
mod gateway;
mod script;
mod shop;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::args::DemoArgs;
use crate::exit::{Exit, Fault};
use crate::out;
use crate::signals::Signals;
use gateway::{Gateway, Plan};
use shop::Shop;

/// Long enough that a slow machine renews in time, short enough that nobody waits for long after a kill.
const LEASE: Duration = Duration::from_secs(5);
/// The script waits for it once.
const SCRIPT_LEASE: Duration = Duration::from_secs(3);

pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Fault> {
    let folder = Folder::make(args.dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Fault::system("cannot start", &error))?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let shop = Shop::open().await?;
        if args.script {
            let plan = Plan::new(folder.path(), shop.address, SCRIPT_LEASE)?;
            return tokio::select! {
                exit = script::play(&shop, &plan, args.listen) => exit,
                () = signals.next() => Ok(Exit::Interrupted),
            };
        }
        let plan = Plan::new(folder.path(), shop.address, LEASE)?;
        let mut gateway = plan.start(args.listen).await?;
        out::print(invitation(&shop, &plan, &gateway, folder.path()))?;
        loop {
            tokio::select! {
                () = signals.next() => break,
                () = gateway.gone() => {}
            }
            let address = gateway.address;
            gateway = plan.start(address).await?;
            out::print(format!("\nThe proxy was killed. It is back, as process {}.\n", gateway.pid()))?;
        }
        gateway.end().await;
        out::print(format!("\n{}\n", tally(&shop)))?;
        Ok(Exit::Ok)
    })
}

fn tally(shop: &Shop) -> String {
    match shop.orders().len() {
        0 => "No order was made.".to_owned(),
        1 => "1 order was made.".to_owned(),
        count => format!("{count} orders were made."),
    }
}

/// Where the store and the log are.
enum Folder {
    Temporary(TempDir),
    Named(PathBuf),
}

impl Folder {
    fn make(named: Option<&Path>) -> Result<Self, Fault> {
        let Some(path) = named else {
            let made = tempfile::Builder::new().prefix("semel-demo-").tempdir();
            return made.map(Self::Temporary).map_err(|error| {
                Fault::system("cannot make a temporary folder: name one with --dir", &error)
            });
        };
        if path.join("semel.db").exists() {
            return Err(Fault::config(format!(
                "--dir: {} has a semel.db already: name another folder, so that no key is used twice",
                path.display()
            )));
        }
        std::fs::create_dir_all(path)
            .and_then(|()| std::path::absolute(path))
            .map(Self::Named)
            .map_err(|error| Fault::config(format!("--dir: cannot make {}: {error}", path.display())))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Named(path) => path,
        }
    }
}

fn invitation(shop: &Shop, plan: &Plan, gateway: &Gateway, dir: &Path) -> String {
    let (front, pid) = (gateway.address, gateway.pid());
    let (semel, store, upstream) = (quoted(plan.program()), quoted(Path::new(&plan.store())), &plan.upstream);
    let post = |key: &str, body: &str| {
        format!(
            "curl -i http://{front}/orders -H 'Idempotency-Key: \"{key}\"' -H 'Content-Type: application/json' \
             -d '{body}'"
        )
    };
    let first = post("cart-1", r#"{"item":"book"}"#);
    let changed = post("cart-1", r#"{"item":"lamp"}"#);
    let slow = post("cart-2", r#"{"item":"desk","seconds":15}"#);
    let doomed = post("cart-3", r#"{"item":"sofa","seconds":15}"#);
    format!(
        "An order service listens on http://{}, and Semel in front of it:
listening on http://{front} (process {pid}, files in {})

Try in another terminal:

  # The first run makes an order. Send it again: the same answer, marked Idempotency-Replayed: true.
  {first}

  # The same key with another body: 422 key-reused.
  {changed}

  # An order that takes 15 seconds. Send it from two terminals at once: the second gets 409 in-flight.
  # Hang up with Ctrl-C and send it again later: it was made once.
  {slow}

  # Kill the proxy while a slow order is being made. It comes back; after {} seconds a retry gets
  # 409 outcome-unknown, and nothing is made twice.
  {doomed}
  kill -9 {pid}
  {semel} keys list --state unknown --store {store}

  # Look whether the order was made, then settle it: retries get this answer.
  {semel} keys resolve --key cart-3 --upstream {upstream} --applied --status 201 --store {store}

  # What was made, counted at the service:
  curl http://{}/orders

Ctrl-C ends the demo.
",
        shop.address,
        dir.display(),
        LEASE.as_secs(),
        shop.address,
    )
}

/// For a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-:".contains(character);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_shell() {
        assert_eq!(quoted(Path::new("/srv/semel-demo-x/semel")), "/srv/semel-demo-x/semel");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
