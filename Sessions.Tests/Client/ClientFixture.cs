using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Sessions.Client;
using Sessions.Tests.OpenAi;

namespace Sessions.Tests.Client;

/// <summary>A server on a store, and what <c>AddSessionsClient</c> makes for it. A server that was started anew is found again.</summary>
internal sealed class ClientFixture : IAsyncDisposable
{
    private readonly OpenAiStore _store;
    private readonly List<ServiceProvider> _applications = [];

    private ClientFixture(OpenAiStore store, OpenAiServer server)
    {
        (_store, Server) = (store, server);
        Application = AddApplication();
    }

    public OpenAiServer Server { get; }

    public ServiceProvider Application { get; }

    public SessionsClient Client => Application.GetRequiredService<SessionsClient>();

    public bool IsDurable => _store.IsDurable;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static async Task<ClientFixture> StartAsync(string storeName, params IEnumerable<(string Key, string Value)> settings)
    {
        var store = await OpenAiStore.CreateAsync(storeName);
        try
        {
            return new ClientFixture(store, await OpenAiServer.StartAsync([.. store.Settings, .. settings]));
        }
        catch
        {
            await store.DisposeAsync();
            throw;
        }
    }

    /// <summary>Another application that uses the same server, as a process of its own would.</summary>
    public ServiceProvider AddApplication(Action<IHttpClientBuilder>? configure = null)
    {
        var services = new ServiceCollection();
        services.AddLogging();
        var http = services.AddSessionsClient("api", options => options.Endpoint = new Uri("http://sessions.invalid"));
        configure?.Invoke(http);
        http.AddHttpMessageHandler(() => new Redirect(() => Server.Address));
        var application = services.BuildServiceProvider();
        lock (_applications)
        {
            _applications.Add(application);
        }

        return application;
    }

    /// <summary>An agent whose history the server keeps.</summary>
    public static ChatClientAgent Agent(IChatClient model, SessionsChatHistoryProvider provider, bool perCall = false)
    {
        var add = AIFunctionFactory.Create((int round) => round + 1, "add", "Adds one");
        return new ChatClientAgent(model, new ChatClientAgentOptions
        {
            Name = "Tester",
            ChatHistoryProvider = provider,
            ChatOptions = new ChatOptions { Instructions = "Be brief.", Tools = [add] },
            RequirePerServiceCallChatHistoryPersistence = perCall,
        });
    }

    public static async Task<string> RunAsync(AIAgent agent, string text, AgentSession session, bool stream = false)
    {
        if (!stream)
        {
            return (await agent.RunAsync(text, session, cancellationToken: Cancel)).Text;
        }

        var told = "";
        await foreach (var update in agent.RunStreamingAsync(text, session, cancellationToken: Cancel))
        {
            told += update.Text;
        }

        return told;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var application in _applications)
        {
            await application.DisposeAsync();
        }

        await Server.DisposeAsync();
        await _store.DisposeAsync();
    }

    // Where the server listens is known only once it does, and changes when it starts anew.
    private sealed class Redirect(Func<Uri> address) : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            request.RequestUri = new Uri(address(), request.RequestUri!.PathAndQuery);
            return base.SendAsync(request, cancellationToken);
        }
    }
}
