using System.Runtime.CompilerServices;

namespace Sessions.Tests;

/// <summary>Threads for all that runs at once in the process of the tests.</summary>
internal static class Threads
{
    /// <summary>
    /// Hundreds of servers and clients share it, and some tests block a thread: with one for each core, which is what the pool begins with,
    /// all would stand still until it adds another, twice a second.
    /// </summary>
    [ModuleInitializer]
    internal static void Prepare() => ThreadPool.SetMinThreads(64, 64);
}
