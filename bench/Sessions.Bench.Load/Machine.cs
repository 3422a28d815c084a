using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Sessions.Bench.Load;

/// <summary>What the numbers were measured on.</summary>
internal static class Machine
{
    private const int Syncs = 200;

    public static string Describe(string folder) => string.Create(CultureInfo.InvariantCulture,
        $"{DateTime.UtcNow:yyyy-MM-dd}: {Environment.ProcessorCount} × {Processor()}, {RuntimeInformation.OSDescription}, "
        + $"{RuntimeInformation.FrameworkDescription}{Build()}; "
        + $"a sync of 4 KiB to the disk takes {SyncMilliseconds(folder):0.00} ms (median of {Syncs}){Load()}.");

    private static string Build()
    {
#if DEBUG
        return ", built for debugging: the numbers mean nothing";
#else
        return "";
#endif
    }

    private static string Processor() => File.Exists("/proc/cpuinfo")
        ? File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal))
            ?.Split(':')[1].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString()
        : RuntimeInformation.ProcessArchitecture.ToString();

    // How many others were at work.
    private static string Load() =>
        File.Exists("/proc/loadavg") ? $"; load average before: {File.ReadAllText("/proc/loadavg").Split(' ')[0]}" : "";

    private static double SyncMilliseconds(string folder)
    {
        var block = new byte[4096];
        using var file = new FileStream(
            Path.Combine(folder, "sync"), FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 0, FileOptions.DeleteOnClose);
        return Bench.Sqlite.Bench.Median(Enumerable.Range(0, Syncs).Select(_ =>
        {
            var started = Stopwatch.GetTimestamp();
            file.Write(block);
            file.Flush(flushToDisk: true);
            return Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        }));
    }
}
