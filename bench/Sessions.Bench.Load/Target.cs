using System.Net;

namespace Sessions.Bench.Load;

/// <summary>A server that is measured, or several that share a store.</summary>
/// <param name="Name">What tables call it.</param>
/// <param name="Processes">Its processes.</param>
/// <param name="Addresses">Where they listen.</param>
internal sealed record Target(string Name, ServerProcess[] Processes, IPEndPoint[] Addresses)
{
    /// <summary>The processor time all its processes have used.</summary>
    public TimeSpan ProcessorTime => Processes.Aggregate(TimeSpan.Zero, (sum, process) => sum + process.ProcessorTime);
}
