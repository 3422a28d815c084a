using System.Reflection;
using Sessions.ServiceDefaults;

namespace Sessions.Bench.Load;

/// <summary>What the command line says.</summary>
internal sealed class Options
{
    public const string Usage = """
        dotnet run -c Release --project bench/Sessions.Bench.Load -- [all|load|streams|memory|start|large] [options]

          --connections 64      clients, each with a connection of its own
          --seconds 2           how long a run takes
          --warmups 3           rounds that do not count: a server is still being compiled for several seconds
          --rounds 5            how often everything is run in turn after that
          --sessions 1000       how many sessions are asked for, 10 of each user
          --stores memory,sqlite,redis,postgres
          --workloads create,get,query,list,history
          --folder bin/…        where the files are made: the disk that is measured
          --idle 1000000        how many idle sessions memory and start have
          --streams 3000        how many streams begin at once
          --mostStreams 9500    how many slow ones: the server has two files for each, and may be allowed no more than 20,000
          --rows "one token,tokens,many,most,published"  which rows of streams
          --streamRounds 3      how often streams are measured, each time with new processes
          --large 2000000       how many sessions the large SQLite file has
          --starts 7            how often the server is started for a median
        """;

    public int Connections { get; set; } = 64;

    public double Seconds { get; set; } = 2;

    public int WarmUps { get; set; } = 3;

    public int Rounds { get; set; } = 5;

    public int Sessions { get; set; } = 1000;

    public string Stores { get; set; } = string.Join(',', Enum.GetNames<StorageType>());

    public string Workloads { get; set; } = string.Join(',', Requests.Workloads);

    /// <summary>Not the system's temporary folder, which may be in memory.</summary>
    public string Folder { get; set; } = AppContext.BaseDirectory;

    public int Idle { get; set; } = 1_000_000;

    public int Starts { get; set; } = 7;

    public int Large { get; set; } = 2_000_000;

    public int Streams { get; set; } = 3000;

    public int MostStreams { get; set; } = 9500;

    public int StreamRounds { get; set; } = 3;

    public string Rows { get; set; } = string.Join(',', StreamRun.Rows);

    public TimeSpan Run => TimeSpan.FromSeconds(Seconds);

    public IReadOnlyList<StorageType> StoreTypes => [.. Split(Stores).Select(name => Enum.Parse<StorageType>(name, ignoreCase: true))];

    public IReadOnlyList<string> WorkloadNames => [.. Split(Workloads)];

    public IReadOnlyList<string> RowNames => [.. Split(Rows)];

    /// <exception cref="ArgumentException">It says something that is not allowed.</exception>
    public static Options Read(string[] args)
    {
        var given = new ConfigurationBuilder().AddCommandLine(args).Build();
        const BindingFlags Settable = BindingFlags.IgnoreCase | BindingFlags.Public | BindingFlags.Instance;
        var unknown = given.AsEnumerable().Select(option => option.Key)
            .FirstOrDefault(key => typeof(Options).GetProperty(key, Settable)?.CanWrite != true);
        if (unknown is not null
            || args.Any(arg => !arg.StartsWith("--", StringComparison.Ordinal) && !given.AsEnumerable().Any(option => option.Value == arg)))
        {
            throw new ArgumentException($"{unknown ?? "What there is beside options"} is not known.");
        }

        var options = given.Get<Options>() ?? new Options();
        return options.Connections < 1 || options.Sessions < options.Connections || options.WarmUps < 0 || options.Rounds < 1
            || options.Seconds <= 0 || options.Starts < 1 || options.Idle < 1
            || options.WorkloadNames.Except(Requests.Workloads).Any()
            || options.RowNames.Except(StreamRun.Rows).Any()
            || Split(options.Stores).Any(name => !Enum.TryParse<StorageType>(name, ignoreCase: true, out _))
            ? throw new ArgumentException(
                "A number is out of range (as many sessions as connections are needed), or there is no such store, workload or row.")
            : options;
    }

    private static string[] Split(string names) => names.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
}
