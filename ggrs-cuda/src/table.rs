//! Tables of a shared library's functions: every one is looked up when the table is made, so that one that is missing is
//! an error before anything runs, and results are plain numbers, so that a code newer than this program is one too.

/// Declares a table. Each signature is compared with the declaration of the same name in `sys`, which must be in scope, or
/// with that of the newer version that is written after `like`.
macro_rules! functions {
    (@declared $name:ident) => { sys::$name };
    (@declared $name:ident $newer:ident) => { sys::$newer };
    (
        $(#[$doc:meta])* $table:ident, $result:ty, $error:ty = $check:path;
        $($name:ident $(like $newer:ident)? ($($arg:ident: $type:ty),* $(,)?);)*
    ) => {
        $(#[$doc])*
        #[allow(non_snake_case, reason = "the library's own names")]
        pub(crate) struct $table {
            $($name: unsafe extern "C" fn($($type),*) -> u32,)*
        }

        const _: () = {
            $(let _: unsafe fn($($type),*) -> $result = functions!(@declared $name $($newer)?);)*
        };

        #[allow(non_snake_case, reason = "the library's own names")]
        impl $table {
            /// The functions of a library, or the name of one that it lacks.
            pub(crate) fn load(library: &libloading::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the type is the function's, as `sys` declares it; its results are u32 there too.
                        let found = unsafe { library.get(concat!(stringify!($name), "\0")) };
                        *found.map_err(|_| stringify!($name))?
                    },)*
                })
            }

            $(
                #[allow(clippy::too_many_arguments, reason = "the library's own functions")]
                pub(crate) unsafe fn $name(&self, $($arg: $type),*) -> Result<(), $error> {
                    // SAFETY: the caller keeps to what the library asks of its callers.
                    $check(stringify!($name), unsafe { (self.$name)($($arg),*) })
                }
            )*
        }
    };
}

pub(crate) use functions;
