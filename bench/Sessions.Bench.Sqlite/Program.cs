using Sessions.Bench.Sqlite;

int[] concurrencies = [1, 16, 64, 256];

// Where the disk to be measured is; the system's temporary folder unless named.
var folder = Directory.CreateDirectory(
    Path.Combine(args.ElementAtOrDefault(1) ?? Path.GetTempPath(), $"sessions-bench-{Environment.ProcessId}")).FullName;
try
{
    switch (args.FirstOrDefault() ?? "all")
    {
        case "appends":
            await Appends.RunAsync(folder, concurrencies);
            break;
        case "reads":
            await Reads.RunAsync(folder);
            break;
        case "all":
            await Appends.RunAsync(folder, concurrencies);
            await Reads.RunAsync(folder);
            break;
        default:
            await Console.Error.WriteLineAsync(
                "dotnet run -c Release --project bench/Sessions.Bench.Sqlite -- [all|appends|reads] [folder]");
            return 2;
    }

    return 0;
}
finally
{
    Directory.Delete(folder, recursive: true);
}
