using System.Buffers;
using System.Net.Http.Headers;

namespace Sessions.Bench.Load;

/// <summary>
/// The least that can stand between a client and a model: Kestrel and HttpClient, bytes as they come, nothing read and nothing kept.
/// </summary>
internal static class PassThrough
{
    /// <summary>Maps the way to a model's endpoint.</summary>
    public static void Map(WebApplication app, string model)
    {
        var client = new HttpMessageInvoker(new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false, UseCookies = false });
        var address = new Uri($"http://{model}/v1/chat/completions");
        app.MapPost("/v1/chat/completions", async http =>
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, address) { Content = new StreamContent(http.Request.Body) };
            request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(http.Request.ContentType!);
            request.Content.Headers.ContentLength = http.Request.ContentLength;
            using var answer = await client.SendAsync(request, http.RequestAborted);
            http.Response.StatusCode = (int)answer.StatusCode;
            http.Response.ContentType = answer.Content.Headers.ContentType?.ToString();
            await using var body = await answer.Content.ReadAsStreamAsync(http.RequestAborted);
            var buffer = ArrayPool<byte>.Shared.Rent(4096);
            while (await body.ReadAsync(buffer, http.RequestAborted) is > 0 and var read)
            {
                await http.Response.BodyWriter.WriteAsync(buffer.AsMemory(0, read), http.RequestAborted);
            }

            ArrayPool<byte>.Shared.Return(buffer);
        });
    }
}
