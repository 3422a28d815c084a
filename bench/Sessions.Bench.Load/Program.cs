using System.Runtime.InteropServices;
using Sessions.Bench.Load;

// The programs that this one starts as processes of their own.
switch (args)
{
    case ["serve", var kind, var where]:
        await Limits.ServeAsync(kind, where);
        return 0;
    case ["hold", var sessions]:
        await IdleSessions.HoldAsync(int.Parse(sessions, System.Globalization.CultureInfo.InvariantCulture));
        return 0;
    case ["--help" or "-h" or "help", ..]:
        Console.WriteLine(Options.Usage);
        return 0;
}

var part = args.FirstOrDefault() is { } first && !first.StartsWith("--", StringComparison.Ordinal) ? first : "all";
Options options;
try
{
    options = Options.Read(args.FirstOrDefault() == part ? args[1..] : args);
    if (part is not ("all" or "load" or "streams" or "memory" or "start" or "large"))
    {
        throw new ArgumentException($"There is no part {part}.");
    }
}
catch (Exception e) when (e is ArgumentException or InvalidOperationException)
{
    await Console.Error.WriteLineAsync($"{e.Message}\n\n{Options.Usage}");
    return 2;
}

// However this ends, what it has started and written goes with it.
using var stopping = new CancellationTokenSource();
void Stop(PosixSignalContext context)
{
    context.Cancel = true;
    stopping.Cancel();
}

using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
var folder = Directory.CreateDirectory(Path.Combine(options.Folder, $"sessions-bench-{Environment.ProcessId}")).FullName;
try
{
    Console.WriteLine($"{Machine.Describe(folder)}\n");
    if (part is "all" or "load")
    {
        await new LoadRun(options, folder, stopping.Token).RunAsync();
    }

    if (part is "all" or "streams")
    {
        await new StreamRun(options, folder, stopping.Token).RunAsync();
    }

    if (part is "all" or "memory")
    {
        await IdleSessions.MeasureAsync(options.Idle, stopping.Token);
    }

    if (part is "all" or "start")
    {
        await new StartUp(options, folder, stopping.Token).RunAsync();
    }

    if (part is "all" or "large")
    {
        await new LargeFile(options, folder, stopping.Token).RunAsync();
    }

    return 0;
}
catch (OperationCanceledException) when (stopping.IsCancellationRequested)
{
    return 130;
}
finally
{
    Directory.Delete(folder, recursive: true);
}
