//! What turns a kernel file into machine code: a compiler that is loaded at run time, or that is not there.

use std::borrow::Cow;

/// Machine code and what the compiler said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// The machine code, as [`crate::driver::Driver::load`] takes it.
    pub image: Vec<u8>,
    /// Registers, spills and shared memory of each kernel, and warnings, in the compiler's words.
    pub log: String,
}

/// Why a kernel file was not compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// There is no compiler.
    #[error(
        "no {compiler} was found (tried {}); install it (pip install {package}), or use a build with a kernel pack",
        tried.join(", ")
    )]
    NoCompiler {
        /// The compiler's name: "NVRTC".
        compiler: &'static str,
        /// The package that has it.
        package: &'static str,
        /// File names tried.
        tried: Vec<String>,
    },
    /// The compiler cannot make code for the device.
    #[error(
        "{compiler} {version} does not know the device's architecture {arch}; install a newer one"
    )]
    Arch {
        /// The compiler's name.
        compiler: &'static str,
        /// Its version.
        version: String,
        /// The architecture.
        arch: String,
    },
    /// The source has an error: a bug in GGRS.
    #[error(
        "{compiler} {version} refuses kernel module \"{module}\" for {arch}; please report this:\n{log}"
    )]
    Source {
        /// The compiler's name.
        compiler: &'static str,
        /// Its version.
        version: String,
        /// The module.
        module: String,
        /// The architecture.
        arch: String,
        /// What the compiler said.
        log: String,
    },
}

/// A compiler of kernel files.
pub trait Compiler: Send + Sync {
    /// Name and version: what it makes is kept on disk by this.
    fn version(&self) -> String;

    /// Compiles a source text for an architecture; `module` is for messages.
    ///
    /// # Errors
    /// No compiler, an unknown architecture, an error in the source.
    fn compile(
        &self,
        module: &str,
        source: &str,
        defines: &[(&'static str, Cow<'static, str>)],
        arch: &str,
    ) -> Result<Compiled, CompileError>;
}
