//! TLS: by whose certificates a server is judged, with which ours we show ourselves, and what time it is. The only file that names
//! rustls.

use super::address::Origin;
use super::connection::ConnectError;
use super::with_causes;
use crate::messages::Setup;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How a server is met by TLS.
pub(crate) struct Tls {
    /// Where we show our certificate: nobody else needs to know who we are.
    own: Origin,
    with_certificate: TlsConnector,
    without: TlsConnector,
}

impl Tls {
    /// By the certificates of this set-up, all as PEM.
    pub(crate) fn new(own: &Origin, setup: &Setup) -> Result<Tls, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&setup.authorities) {
            let certificate = certificate.map_err(|error| format!("the authorities' certificates: {error}"))?;
            // One of a hundred that is of an odd kind does not matter, as with every other program.
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err("there is no certificate of an authority to judge servers by".to_owned());
        }
        let clock: Arc<dyn TimeProvider> = Arc::new(NotBefore(setup.not_before_seconds));
        let builder = || {
            ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::clone(&clock))
                .with_safe_default_protocol_versions()
                .map(|builder| builder.with_root_certificates(roots.clone()))
                .map_err(|error| error.to_string())
        };
        let without = connector(builder()?.with_no_client_auth());
        let with_certificate = match &setup.identity {
            None => without.clone(),
            Some(pem) => {
                let wrong = |error: &dyn std::error::Error| format!("our certificate: {}", with_causes(error));
                let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(|error| wrong(&error))?;
                let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(&error))?;
                connector(builder()?.with_client_auth_cert(chain, key).map_err(|error| wrong(&error))?)
            }
        };
        Ok(Tls { own: own.clone(), with_certificate, without })
    }

    /// Does the handshake.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let connector = if *origin == self.own { &self.with_certificate } else { &self.without };
        let failed =
            |is_final, reason: String| ConnectError { reason: format!("{}: {reason}", origin.host), is_final };
        let name = ServerName::try_from(origin.host.clone()).map_err(|error| failed(true, error.to_string()))?;
        connector.connect(name, stream).await.map_err(|error| {
            // rustls' own refusals come as this kind: a wrong certificate stays one.
            failed(error.kind() == std::io::ErrorKind::InvalidData, with_causes(&error))
        })
    }
}

fn connector(mut config: ClientConfig) -> TlsConnector {
    // A cache of sessions takes 64 KiB, and there is one connection.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// The clock, but never before a time that is known to be over: a board without a battery begins in 1970.
#[derive(Debug)]
struct NotBefore(u64);

impl TimeProvider for NotBefore {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(UnixTime::since_unix_epoch(now.max(Duration::from_secs(self.0))))
    }
}
