//! Over TLS: that it is TLS, and whom it is with.

use std::path::Path;

use semel_core::record::Retention;
use semel_core::store::{Begun, Settled, Store as _, StoreError, StoreErrorKind};
use semel_store_redis::RedisStore;
use semel_testkit::certificates::Authority;
use tempfile::TempDir;

use crate::server::{Server, free_port};
use crate::support::{answer, ask, claimed, id, private};

struct Secured {
    server: Server,
    port: u16,
    folder: TempDir,
}

fn write(folder: &TempDir, name: &str, pem: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, pem).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server that shows a certificate for this name, and wants to see one if told so.
fn secured(authority: &Authority, name: &str, wants: &str) -> Option<Secured> {
    let folder = tempfile::tempdir().unwrap();
    let identity = authority.issue(&[name]).unwrap();
    let ca = write(&folder, "ca.pem", &authority.pem());
    let certificate = write(&folder, "cert.pem", &identity.certificate);
    let key = write(&folder, "key.pem", &identity.key);
    let port = free_port();
    let (cert_file, key_file, tls_port) = (&*certificate, &*key, port.to_string());
    let settings = [
        "--save",
        "",
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        cert_file,
        "--tls-key-file",
        key_file,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        wants,
        "--requirepass",
        "open-sesame-7319",
    ];
    Some(Secured { server: Server::start(&settings)?, port, folder })
}

impl Secured {
    fn url(&self, more: &str) -> String {
        let ca = self.folder.path().join("ca.pem");
        format!("rediss://:open-sesame-7319@127.0.0.1:{}/0?tls_ca={}{more}", self.port, ca.display())
    }
}

async fn refused(url: &str, says: &str) {
    let error: StoreError = RedisStore::open(url).await.unwrap_err();
    assert!(error.to_string().contains(says), "{says:?} is not said: {error}");
    assert_eq!(error.kind(), StoreErrorKind::Config, "{error}");
    assert!(!error.to_string().contains("open-sesame"), "{error}");
}

#[test]
fn steps_and_wake_ups_go_over_tls_to_a_server_that_is_who_it_says() {
    private(async || {
        let authority = Authority::new().unwrap();
        let Some(secured) = secured(&authority, "127.0.0.1", "no") else { return };
        let store = RedisStore::open(&secured.url("")).await.unwrap();
        let lease = claimed(&store, 1).await;
        let watch = store.watch(&id(1)).await.unwrap();
        let settled = store.complete(lease, &answer("done"), &Retention::default()).await.unwrap();
        assert_eq!(settled, Settled::Applied);
        tokio::time::timeout(std::time::Duration::from_secs(10), watch).await.expect("it was not woken");
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Differs(_) | Begun::Settled(_)));
        // The same certificates out of the program's own hands.
        let bare = secured.url("").split('?').next().unwrap().to_owned();
        let pem = authority.pem();
        assert!(RedisStore::builder(&bare).certificate_authority(pem).open().await.is_ok());
        let stranger = Authority::new().unwrap().pem();
        let distrusting = RedisStore::builder(&bare).certificate_authority(stranger).open().await;
        let error = distrusting.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Config, "{error}");
        assert!(error.to_string().contains("nobody vouches for"), "{error}");
        // Redis waits for a line's end at its plain port, so that this one is no more than a silence.
        let plain = format!("rediss://127.0.0.1:{}/0", secured.server.port);
        let silent = RedisStore::builder(&plain).timeout(std::time::Duration::from_millis(300)).open().await;
        assert!(silent.is_err());
        refused(&secured.url("&tls_cert=only-half.pem"), "tls_cert and tls_key").await;
        refused(
            &format!("rediss://127.0.0.1:1/?tls_ca={}", secured.folder.path().join("none").display()),
            "none",
        )
        .await;
    });
}

#[test]
fn a_server_with_another_name_is_refused() {
    private(async || {
        let authority = Authority::new().unwrap();
        let Some(secured) = secured(&authority, "redis.example", "no") else { return };
        refused(&secured.url(""), "another name").await;
    });
}

#[test]
fn a_client_shows_its_certificate_where_it_is_asked_for() {
    private(async || {
        let authority = Authority::new().unwrap();
        let Some(secured) = secured(&authority, "127.0.0.1", "yes") else { return };
        assert!(RedisStore::open(&secured.url("")).await.is_err(), "nothing was shown");
        let file = |name: &str| Path::join(secured.folder.path(), name).display().to_string();
        let shown = format!("&tls_cert={}&tls_key={}", file("cert.pem"), file("key.pem"));
        let store = RedisStore::open(&secured.url(&shown)).await.unwrap();
        assert!(matches!(store.begin(&ask(1)).await.unwrap(), Begun::Acquired(_)));
    });
}
