//! The TLS provider of this process's outgoing calls, chosen once: ring, which reqwest is built without.

/// Makes ring the process's TLS provider. To be called before a reqwest client is built; again does nothing.
pub fn install_provider() {
    // The error says that a provider is set already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
