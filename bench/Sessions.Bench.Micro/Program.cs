using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using Sessions.Bench.Micro;

// In this process: a project made and built for each benchmark would take minutes, and fail where the feed is slow.
BenchmarkSwitcher.FromAssembly(typeof(TurnBenchmarks).Assembly).Run(
    args, DefaultConfig.Instance.AddJob(Job.Default.WithToolchain(InProcessEmitToolchain.Instance).AsDefault()));
