using System.Runtime.CompilerServices;

namespace Sessions.Tests;

/// <summary>Threads for all that runs at once in the process of the tests.</summary>
internal static class Threads
{
    /// <summary>
    /// Hundreds of servers and clients share it, and some tests block a thread: with one for each core, which is what the pool begins with,
    /// all would stand still until it adds another, twice a second. Not in the processes that tests start: one measures its memory.
    /// </summary>
    [ModuleInitializer]
    internal static void Prepare()
    {
        if (!Environment.GetCommandLineArgs().Contains("-explicit"))
        {
            ThreadPool.SetMinThreads(64, 64);
        }
    }
}
