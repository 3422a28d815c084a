using System.Collections.Concurrent;
using System.Text;
using System.Text.Json.Nodes;

namespace Sessions.Tests.Storage;

/// <summary>A store that two servers share, and that can be killed.</summary>
internal interface IHammeredStore : IAsyncDisposable
{
    /// <summary>What servers are started with.</summary>
    IReadOnlyList<(string Key, string Value)> Settings { get; }

    /// <summary>Kills it without warning, and starts it again on what it has written.</summary>
    Task CrashAsync();

    /// <summary>Checks that nothing is left behind.</summary>
    Task CheckAsync();
}

/// <summary>Two servers as processes of their own on one store, and clients that retry: whatever ends in the middle, each answered turn
/// is there once, on those before it.</summary>
public abstract class HammerContract
{
    private const int Clients = 32;
    private const int Sessions = 8;
    private const int TurnsAround = 60;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private readonly ConcurrentDictionary<(string Session, int Turn), string> _answered = new();

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private protected abstract Task<IHammeredStore> StartStoreAsync();

    [Fact]
    public Task A_replica_is_stopped_for_longer_than_its_leases_and_goes_on() => HammerAsync(async run =>
    {
        // Clients that wait for it give up and ask the other one.
        run.Replicas[0].Signal("STOP");

        // Where it held a session, the next turn comes when its lease has run out. One may just have been answered.
        var before = Enumerable.Range(0, Sessions).Select(AnsweredOf).ToList();
        await ServiceProcess.UntilAsync(() => before.Index().All(session => AnsweredOf(session.Index) >= session.Item + 2));
        run.Replicas[0].Signal("CONT");
    });

    [Fact]
    public Task A_replica_is_killed_and_another_one_started() => HammerAsync(async run =>
    {
        run.Replicas[0].Signal("KILL");
        await AnswerMoreAsync();
        await run.StartReplicaAsync();
    });

    [Fact]
    public Task The_store_is_killed_and_started_again_on_its_log() => HammerAsync(run => run.Store.CrashAsync());

    private protected async Task HammerAsync(Func<Run, Task> faultAsync) => await HammerAsync(await StartStoreAsync(), faultAsync);

    private protected async Task HammerAsync(IHammeredStore store, Func<Run, Task> faultAsync)
    {
        await using var run = await Run.StartAsync(store);
        using var enough = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        var clients = Task.WhenAll(Enumerable.Range(0, Clients).Select(client =>
            Task.Run(() => AskAsync(run, client, enough.Token), Cancel)));
        await Task.WhenAny(AnswerMoreAsync(), clients);
        await faultAsync(run);
        await Task.WhenAny(AnswerMoreAsync(), clients);
        await enough.CancelAsync();
        await clients;
        await CheckAsync(run);
    }

    private int AnsweredOf(int session) => _answered.Keys.Count(turn => turn.Session == $"s{session}");

    private protected Task AnswerMoreAsync()
    {
        var goal = _answered.Count + TurnsAround;
        return ServiceProcess.UntilAsync(() => _answered.Count >= goal);
    }

    // Until there is enough, and never in the middle of a turn: each that was begun is asked for until it is answered.
    private async Task AskAsync(Run run, int client, CancellationToken enough)
    {
        for (var i = 0; !enough.IsCancellationRequested; i++)
        {
            var session = $"s{(client + i) % Sessions}";
            var query = $"{client}-{i}";
            var body = new JsonObject
            {
                ["query"] = query,
                ["thread_id"] = session,
                ["user_id"] = session,
                ["agent_type"] = "model",
                ["parameters"] = new JsonObject { ["history_turns"] = 1000 },
            }.ToJsonString();
            var turn = await AskUntilAnsweredAsync(run, body, query);
            Assert.True(_answered.TryAdd((session, turn), query), $"Turn {turn} of {session} was answered twice.");
        }
    }

    private static async Task<int> AskUntilAnsweredAsync(Run run, string body, string key)
    {
        while (true)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(run.AnyAddress(), "/query"))
            {
                Content = new StringContent(body, Encoding.UTF8, "application/json"),
            };
            request.Headers.Add("Idempotency-Key", key);
            using var limited = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
            limited.CancelAfter(Patience);
            try
            {
                using var response = await run.Http.SendAsync(request, limited.Token);
                var answer = await Answer.ReadAsync(response);
                if (answer.Status == 200)
                {
                    return (int)answer.Json["metadata"]!["turn"]!;
                }

                Assert.True(answer.Status is 409 or 503, answer.Text);
            }
            catch (Exception e) when (
                (e is HttpRequestException or IOException or OperationCanceledException) && !Cancel.IsCancellationRequested)
            {
                // What has become of it nobody knows: the key will tell.
            }

            await Task.Delay(50, Cancel);
        }
    }

    private async Task CheckAsync(Run run)
    {
        for (var i = 0; i < Sessions; i++)
        {
            var session = $"s{i}";
            List<string> asked = [];
            string? next = null;
            do
            {
                var path = $"/sessions/{session}/history?limit=100{(next is null ? "" : $"&after={next}")}";
                using var response = await run.Http.GetAsync(new Uri(run.Newest, path), Cancel);
                var page = (await Answer.ReadAsync(response)).Json;
                foreach (var turn in page["turns"]!.AsArray())
                {
                    asked.Add((string)turn!["query"]!);
                    Assert.Equal(asked.Count, (int)turn["turn"]!);
                    Assert.Equal(_answered[(session, asked.Count)], asked[^1]);
                    Assert.Equal(ChatCompletionsServer.Digest(asked), (string)turn["response"]!);
                }

                next = (string?)page["next"];
            }
            while (next is not null);

            Assert.Equal(_answered.Keys.Count(key => key.Session == session), asked.Count);
        }

        await run.Store.CheckAsync();
    }

    private protected sealed class Run : IAsyncDisposable
    {
        private readonly ConcurrentQueue<Uri> _addresses = new();
        private readonly ChatCompletionsServer _model;

        private Run(IHammeredStore store, ChatCompletionsServer model) => (Store, _model) = (store, model);

        public IHammeredStore Store { get; }

        public List<ServiceProcess> Replicas { get; } = [];

        public HttpClient Http { get; } = new();

        public static async Task<Run> StartAsync(IHammeredStore store)
        {
            var model = await ChatCompletionsServer.StartAsync();
            model.Reply = async (request, _, http) =>
            {
                // Long enough for the fault to come in the middle of a turn.
                await Task.Delay(20, Cancel);
                await ChatCompletionsServer.AnswerAsync(http, ChatCompletionsServer.Digest(ChatCompletionsServer.Asked(request)));
            };
            var run = new Run(store, model);
            await run.StartReplicaAsync();
            await run.StartReplicaAsync();
            return run;
        }

        public async Task StartReplicaAsync()
        {
            var replica = ServiceProcess.Api(
            [
                .. Store.Settings, ("AGENTS__MODEL__HISTORY_TURNS", "1000"),
                .. _model.Agent("model"),
            ]);
            Replicas.Add(replica);
            _addresses.Enqueue(await replica.AddressAsync());
        }

        /// <summary>One that was not killed.</summary>
        public Uri Newest => _addresses.Last();

        /// <summary>One of all that there ever were: a client does not know which have died.</summary>
        public Uri AnyAddress()
        {
            var all = _addresses.ToArray();
            return all[Random.Shared.Next(all.Length)];
        }

        public async ValueTask DisposeAsync()
        {
            Http.Dispose();
            foreach (var replica in Replicas)
            {
                await replica.DisposeAsync();
            }

            await Store.DisposeAsync();
            await _model.DisposeAsync();
        }
    }
}
