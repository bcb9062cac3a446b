//! The machine code of a device: modules compiled or taken from disk when a plan first needs them, loaded once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use ggrs_core::DeviceError;

use crate::compile::Compiler;
use crate::disk_cache::DiskCache;
use crate::driver::{Driver, Function, Module};
use crate::kernel::{Launch, ModuleKey};
use crate::pack;
use crate::source::source;

/// A kernel with the dynamic shared memory it was looked up for.
type FunctionKey = (&'static str, u32);

struct Loaded {
    module: Module,
    functions: HashMap<FunctionKey, Function>,
}

/// Modules by key.
pub(crate) struct Library {
    device: String,
    driver: Arc<dyn Driver>,
    compiler: Arc<dyn Compiler>,
    cache: DiskCache,
    loaded: Mutex<HashMap<ModuleKey, Loaded>>,
}

impl Library {
    pub(crate) fn new(
        device: String,
        driver: Arc<dyn Driver>,
        compiler: Arc<dyn Compiler>,
    ) -> Self {
        Self {
            // A simulator has a cache of its own, which knows what its code depends on.
            cache: DiskCache::new(!driver.facts().is_simulated),
            device,
            driver,
            compiler,
            loaded: Mutex::default(),
        }
    }

    /// The kernel of a launch, compiled and loaded if it is not yet.
    pub(crate) fn function(&self, launch: &Launch) -> Result<Function, DeviceError> {
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains_key(&launch.module) {
            let module = self.load(&launch.module)?;
            let functions = HashMap::new();
            all.insert(launch.module.clone(), Loaded { module, functions });
        }
        let Some(loaded) = all.get_mut(&launch.module) else {
            return Err(self.error(&launch.module, "it was not loaded"));
        };
        let key = (launch.kernel, launch.geometry.shared_bytes);
        if let Some(function) = loaded.functions.get(&key) {
            return Ok(*function);
        }
        let found = self.driver.function(loaded.module, key.0, key.1);
        let function = found.map_err(|e| self.error(&launch.module, e))?;
        loaded.functions.insert(key, function);
        Ok(function)
    }

    /// Loads a module. What was on disk and cannot be loaded is made anew.
    fn load(&self, key: &ModuleKey) -> Result<Module, DeviceError> {
        let load = |image: &[u8]| self.driver.load(image).map_err(|e| self.error(key, e));
        if let Some(image) = self.kept(key)? {
            match load(&image) {
                Ok(module) => return Ok(module),
                Err(error) => tracing::info!(%error, "what was kept is made anew"),
            }
        }
        load(&self.made(key)?)
    }

    fn text(&self, key: &ModuleKey) -> Result<String, DeviceError> {
        source(key.file).ok_or_else(|| self.error(key, "there is no such file"))
    }

    /// A module's machine code if it is part of the program or on disk.
    fn kept(&self, key: &ModuleKey) -> Result<Option<Vec<u8>>, DeviceError> {
        let text = self.text(key)?;
        let facts = self.driver.facts();
        let embedded = pack::embedded(key, &text, &facts.arch);
        if let Some(image) = embedded.filter(|_| !facts.is_simulated) {
            return Ok(Some(image.to_vec()));
        }
        let name = DiskCache::name(key, &text, &facts.arch, &self.compiler.version());
        Ok(self.cache.read(&name))
    }

    /// A module's machine code, compiled now and kept on disk.
    fn made(&self, key: &ModuleKey) -> Result<Vec<u8>, DeviceError> {
        let text = self.text(key)?;
        let arch = &self.driver.facts().arch;
        let start = Instant::now();
        let compiled = self
            .compiler
            .compile(&key.to_string(), &text, &key.defines, arch)
            .map_err(|e| self.error(key, e))?;
        let took_ms = start.elapsed().as_millis();
        tracing::info!(module = %key, arch, took_ms, "kernel compiled");
        let name = DiskCache::name(key, &text, arch, &self.compiler.version());
        self.cache.write(&name, &compiled.image);
        Ok(compiled.image)
    }

    fn error(&self, key: &ModuleKey, cause: impl ToString) -> DeviceError {
        DeviceError::Kernel {
            device: self.device.clone(),
            kernel: key.to_string(),
            cause: cause.to_string(),
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let all = self
            .loaded
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for (_, loaded) in all.drain() {
            self.driver.unload(loaded.module);
        }
    }
}
