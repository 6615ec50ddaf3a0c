//! A server that speaks TLS, with a certificate for `localhost` by an authority of our own.

use semel_core::store::{Store as _, StoreErrorKind as Kind};
use semel_store_postgres::{Builder, PostgresStore};
use semel_testkit::certificates::Authority;
use semel_testkit::postgres::Server;

use crate::open::refused;
use crate::support::{claimed, completed, private};

struct Encrypted {
    server: Server,
    /// The file of the authority's certificate.
    root: String,
}

impl Encrypted {
    /// It refuses the user `semel` without TLS.
    async fn start() -> Option<Self> {
        let authority = Authority::new().unwrap();
        let identity = authority.issue(&["localhost"]).unwrap();
        let mut server = Server::make(&["fsync=off", "ssl=on"]).unwrap()?;
        let certificate = server.write("server.pem", &identity.certificate).unwrap();
        let key = server.write("server.key", &identity.key).unwrap();
        server.set(format!("ssl_cert_file={}", certificate.display()));
        server.set(format!("ssl_key_file={}", key.display()));
        let rules = "hostssl all semel all trust\nhost all postgres all trust\n";
        std::fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
        server.resume().await.unwrap();
        server.sql("CREATE ROLE semel LOGIN; GRANT CREATE ON DATABASE postgres TO semel").unwrap();
        let root = server.write("root.pem", &authority.pem()).unwrap();
        Some(Self { server, root: root.display().to_string() })
    }

    fn at(&self, host: &str, query: &str) -> Builder {
        let port = self.server.port();
        PostgresStore::builder(format!("postgres://semel:hunter2@{host}:{port}/postgres?{query}"))
    }
}

#[test]
fn a_connection_is_encrypted_and_its_server_is_who_it_says() {
    private(async || {
        let Some(there) = Encrypted::start().await else { return };
        let root = format!("sslrootcert={}", there.root);
        let good = [
            ("localhost", format!("sslmode=verify-full&{root}")),
            ("127.0.0.1", format!("sslmode=verify-ca&{root}")),
            ("127.0.0.1", format!("sslmode=require&{root}")),
            ("127.0.0.1", "sslmode=require".into()),
            ("127.0.0.1", "sslmode=prefer".into()),
        ];
        for (key, (host, query)) in (0..).zip(good) {
            let store =
                there.at(host, &query).open().await.unwrap_or_else(|error| panic!("{query}: {error}"));
            completed(&store, key, "x").await;
            // The one that listens, too.
            let _watched = store.watch(claimed(&store, key + 100).await.id()).await.unwrap();
            let encrypted = "SELECT count(*) > 1 AND bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity \
                             USING (pid) WHERE usename = 'semel'";
            there.server.until(encrypted, "t").await.unwrap();
        }
    });
}

#[test]
fn what_is_wrong_with_tls_is_told_when_it_is_opened() {
    private(async || {
        let Some(there) = Encrypted::start().await else { return };
        let server = &there.server;
        let place = format!("{}/postgres", server.address());
        let root = format!("sslrootcert={}", there.root);
        let refuse = async |host: &str, query: String, names: &[&str]| {
            refused(there.at(host, &query), Kind::Config, names).await
        };
        refuse("127.0.0.1", format!("sslmode=verify-full&{root}"), &[&place, "another host name"]).await;
        // Of somebody else, or of nobody: the public ones do not know ours.
        let other = server.write("other.pem", &Authority::new().unwrap().pem()).unwrap();
        for mode in ["require", "verify-ca", "verify-full"] {
            let query = format!("sslmode={mode}&sslrootcert={}", other.display());
            refuse("localhost", query, &["localhost", "authority", "sslrootcert"]).await;
        }
        refuse("localhost", "sslmode=verify-full".into(), &["authority", "sslrootcert"]).await;
        refuse("127.0.0.1", "sslmode=verify-ca".into(), &[&place, "sslrootcert"]).await;
        refuse("127.0.0.1", "sslmode=verify-full&sslrootcert=/no/such".into(), &[&place, "sslrootcert"])
            .await;
        let not_one =
            server.write("not-one.pem", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n");
        let query = format!("sslmode=verify-full&sslrootcert={}", not_one.unwrap().display());
        refuse("localhost", query, &["TLS", "certificates"]).await;
        // The server demands it.
        refuse("127.0.0.1", "sslmode=disable".into(), &[&place, "sslmode", "pg_hba.conf"]).await;

        let Some(plain) = Server::start(&["fsync=off"]).await.unwrap() else { return };
        for query in ["sslmode=require".to_owned(), format!("sslmode=verify-full&{root}")] {
            let url = format!("{}?{query}", plain.url());
            refused(PostgresStore::builder(url), Kind::Config, &["TLS", "speaks none"]).await;
        }
    });
}
