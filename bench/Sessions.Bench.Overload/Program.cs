using System.Globalization;
using Sessions.Bench.Overload;

CultureInfo.DefaultThreadCurrentCulture = CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
var amount = args.Length > 1 && int.TryParse(args[1], out var given) ? given : (int?)null;
switch (args.FirstOrDefault())
{
    case "overload" or null:
        await Overload.RunAsync(TimeSpan.FromSeconds(amount ?? 30));
        return 0;
    case "waiting":
        await Waiting.RunAsync(amount ?? 5000);
        return 0;
    default:
        await Console.Error.WriteLineAsync(
            "dotnet run -c Release --project bench/Sessions.Bench.Overload -- [overload [seconds] | waiting [queries]]");
        return 2;
}
