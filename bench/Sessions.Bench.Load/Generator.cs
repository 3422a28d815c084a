using System.Diagnostics;
using System.Net.Sockets;
using HdrHistogram;

namespace Sessions.Bench.Load;

/// <summary>
/// The clients: each sends its next request when it has the answer to the one before. A thread or a few poll for all of them, with plain
/// blocking calls: that
/// costs a fraction of what a server does for a request.
/// </summary>
internal sealed class Generator(int connections, CancellationToken cancellationToken)
{
    private const int PatienceMicroseconds = 30_000_000;

    private readonly int _threads = Math.Clamp(Environment.ProcessorCount / 4, 1, 8);
    private int _serial;
    private string? _failure;

    /// <summary>Lets all clients go on for a time.</summary>
    /// <param name="target">Whom they ask.</param>
    /// <param name="requests">What each of them asks, over and over again.</param>
    /// <param name="time">For how long.</param>
    public Measurement Run(Target target, byte[][][] requests, TimeSpan time) => Run(target, requests, time, times: 0);

    /// <summary>Lets each client send its requests so many times.</summary>
    public Measurement RunAll(Target target, byte[][][] requests, int times) => Run(target, requests, TimeSpan.MaxValue, times);

    private Measurement Run(Target target, byte[][][] requests, TimeSpan time, int times)
    {
        var clients = new List<Connection>();
        try
        {
            for (var i = 0; i < connections; i++)
            {
                clients.Add(new Connection(target.Addresses[i % target.Addresses.Length], requests[i], _serial + i, connections)
                {
                    Left = times == 0 ? int.MaxValue : times * requests[i].Length,
                });
            }

            _failure = null;
            var (server, own) = (target.ProcessorTime, Environment.CpuUsage.TotalTime);
            var (histogram, failures, taken) = Run(clients, time);
            _serial = clients.Max(client => client.Serial);
            return Measurement.Of(histogram, time == TimeSpan.MaxValue ? taken : time, failures) with
            {
                Failure = _failure,
                ServerMicroseconds = (target.ProcessorTime - server).TotalMicroseconds / histogram.TotalCount,
                ClientMicroseconds = (Environment.CpuUsage.TotalTime - own).TotalMicroseconds / histogram.TotalCount,
            };
        }
        finally
        {
            clients.ForEach(client => client.Dispose());
        }
    }

    private (LongHistogram Histogram, long Failures, TimeSpan Taken) Run(List<Connection> clients, TimeSpan time)
    {
        var (all, failures) = (Measurement.NewHistogram(), 0L);
        List<Exception> troubles = [];
        var started = Stopwatch.GetTimestamp();
        var threads = Enumerable.Range(0, _threads).Select(number => new Thread(() =>
        {
            try
            {
                var (histogram, failed) = Drive([.. clients.Where((_, i) => i % _threads == number)], started, time);
                lock (all)
                {
                    all.Add(histogram);
                    failures += failed;
                }
            }
            catch (Exception e) when (e is SocketException or IOException or TimeoutException)
            {
                lock (all)
                {
                    troubles.Add(e);
                }
            }
        })).ToList();
        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());
        cancellationToken.ThrowIfCancellationRequested();
        return troubles.Count == 0 ? (all, failures, Stopwatch.GetElapsedTime(started)) : throw new AggregateException(troubles);
    }

    private (LongHistogram Histogram, long Failures) Drive(Connection[] clients, long started, TimeSpan time)
    {
        var histogram = Measurement.NewHistogram();
        var failures = 0L;
        var waiting = clients.ToDictionary(client => client.Socket);
        foreach (var client in clients)
        {
            client.SentAt = Stopwatch.GetTimestamp();
            client.Send();
        }

        var ready = new List<Socket>(clients.Length);
        while (waiting.Count > 0)
        {
            ready.Clear();
            ready.AddRange(waiting.Keys);
            Socket.Select(ready, null, null, PatienceMicroseconds);
            if (ready.Count == 0)
            {
                throw new TimeoutException("The server has not answered for 30 seconds.");
            }

            foreach (var socket in ready)
            {
                var client = waiting[socket];
                if (!client.Receive())
                {
                    continue;
                }

                var now = Stopwatch.GetTimestamp();
                var inTime = Stopwatch.GetElapsedTime(started, now) < time;
                if (inTime)
                {
                    histogram.RecordValue(Stopwatch.GetElapsedTime(client.SentAt, now).Ticks);
                    if (!client.IsSuccess)
                    {
                        failures++;
                        _failure = client.Answer;
                    }
                }

                if (!inTime || --client.Left == 0 || cancellationToken.IsCancellationRequested)
                {
                    waiting.Remove(socket);
                    continue;
                }

                client.SentAt = now;
                client.Send();
            }
        }

        return (histogram, failures);
    }
}
