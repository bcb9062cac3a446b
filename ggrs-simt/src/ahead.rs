//! Compiling kernels ahead of their first use: all modules of an architecture into the cache on disk.

use crate::compile::{CompileError, Compiler};
use crate::disk_cache::DiskCache;
use crate::kernel::ModuleKey;
use crate::pack;
use crate::routes::modules;
use crate::source::source;

/// What became of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// It was in the cache.
    Kept,
    /// It was compiled; what the compiler said.
    Compiled(String),
}

/// A pack of all kernels of an architecture for the feature `kernel-pack`, from the cache or compiled now.
///
/// # Errors
/// Those of [`compile_ahead`].
pub fn kernel_pack(compiler: &dyn Compiler, arch: &str) -> Result<Vec<u8>, CompileError> {
    let cache = DiskCache::new(true);
    let version = compiler.version();
    let mut packed = Vec::new();
    for key in modules() {
        let Some(text) = source(key.file) else {
            continue;
        };
        let image = match cache.read(&DiskCache::name(&key, &text, arch, &version)) {
            Some(image) => image,
            None => {
                compiler
                    .compile(&key.to_string(), &text, &key.defines, arch)?
                    .image
            }
        };
        pack::append(&mut packed, &key, &text, arch, &image);
    }
    Ok(packed)
}

/// Compiles the modules number `part`, `part + of`, `part + 2 * of`, .. for an architecture, and tells each.
///
/// A compiler works on one module at a time, so that several processes, each with its part, are faster than one.
///
/// # Errors
/// No compiler, an unknown architecture, an error in a kernel.
pub fn compile_ahead(
    compiler: &dyn Compiler,
    arch: &str,
    (part, of): (usize, usize),
    tell: &mut dyn FnMut(&ModuleKey, Ahead),
) -> Result<(), CompileError> {
    let cache = DiskCache::new(true);
    let version = compiler.version();
    for key in modules().into_iter().skip(part).step_by(of.max(1)) {
        let Some(text) = source(key.file) else {
            continue;
        };
        let name = DiskCache::name(&key, &text, arch, &version);
        if cache.read(&name).is_some() {
            tell(&key, Ahead::Kept);
            continue;
        }
        let compiled = compiler.compile(&key.to_string(), &text, &key.defines, arch)?;
        cache.write(&name, &compiled.image);
        tell(&key, Ahead::Compiled(compiled.log));
    }
    Ok(())
}
